/** The version of package.json, which the bundle of a release cannot read. A test compares the two. */
export const version = '0.1.0'

import neostandard from 'neostandard'

export default [
  ...neostandard({ ts: true, ignores: ['dist/', 'build/', '.tap/', '.data/'] }),
  {
    files: ['{src,test}/**/*.ts'],
    rules: { '@stylistic/max-len': ['error', { code: 120, ignoreUrls: true }] }
  },
  {
    files: ['src/**/*.ts'],
    rules: {
      'max-lines': ['error', 250],
      'no-restricted-syntax': [
        'error',
        { selector: 'ImportExpression[source.type!="Literal"]', message: 'Name the module: its import is checked.' },
        { selector: ':not(MemberExpression) > Identifier[name="process"]', message: 'Name the member of process.' }
      ]
    }
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/{server,migrate,dev,doctor}.ts'],
    rules: {
      'no-restricted-properties': [
        'error', { object: 'process', property: 'env', message: 'Only entry points read the environment.' }
      ]
    }
  }
]

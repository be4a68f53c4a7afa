/** The parts of a URL (RFC 3986, section 3); of several hosts `host` has all. */
function partsOf (url: string) {
  const scheme = /^[\w+.-]+:\/\//.exec(url)?.[0] ?? ''
  const afterScheme = url.slice(scheme.length)
  const end = afterScheme.search(/[/?#]|$/)
  const authority = afterScheme.slice(0, end)
  const rest = afterScheme.slice(end)
  const at = authority.lastIndexOf('@')
  return { scheme, credentials: authority.slice(0, Math.max(at, 0)), host: authority.slice(at + 1), rest }
}

/** Whether a character of the password ends the password, or the whole authority, too early. */
function isPasswordCut (url: string): boolean {
  const { credentials, rest } = partsOf(url)
  return url.includes('#') || credentials.includes('@') || /^[^?]*@|^\?[^=&]*@/.test(rest)
}

/**
 * What is wrong with user, password, host or port of a URL, as the end of a sentence that begins with the name of the
 * variable; undefined where nothing is. No part of the URL is shown.
 */
export function authorityIssue (url: string): string | undefined {
  const { credentials, host } = partsOf(url)
  if (isPasswordCut(url)) return 'has # / ? or @ in its password: percent-encode # as %23, / as %2F, ? as %3F, @ as %40'
  if (/%(?![0-9a-f]{2})/i.test(credentials)) {
    return 'has a % in user or password that begins no escape: percent-encode % as %25'
  }
  if (host.includes(',')) return 'must name one host only'
  const port = /:([^:\]]*)$/.exec(host)?.[1] ?? ''
  if (!/^\d*$/.test(port) || Number(port) > 65_535) {
    return 'must have a port from 0 to 65535; if this is a part of the password, percent-encode # / ? @ in it'
  }
  return undefined
}

/** What is wrong with a DATABASE_URL, as `authorityIssue` says it. The host may be the folder of a Unix socket. */
export function databaseUrlIssue (url: string): string | undefined {
  const { scheme, credentials, host, rest } = partsOf(url)
  if (!/^postgres(?:ql)?:\/\/$/.test(scheme)) return 'must be a URL that starts with postgres:// or postgresql://'
  const issue = authorityIssue(url)
  if (issue) return issue
  // WHATWG's parser refuses a user without a host.
  const complete = `${scheme}${credentials && `${credentials}@`}${host || 'socket'}${rest}`
  if (!URL.canParse(complete)) return 'is not a URL: percent-encode all but letters and digits in user and password'
  const socket = new URL(complete).searchParams.get('host')
  if (socket?.includes(',')) return 'must name one host only'
  if (host || socket) return undefined
  return 'must name a host, or the folder of a Unix socket: postgres://user:password@/db?host=/var/run/postgresql'
}

import proxyAddr from '@fastify/proxy-addr'
import type { FastifyRequest } from 'fastify'
import ipaddr from 'ipaddr.js'
import { isIP } from 'node:net'

/** Entries of X-Forwarded-For that are read, counted from its end. No real chain of gateways is longer. */
const maxForwardedEntries = 20

/** The budget that all clients of an IPv6 /48 share, as a multiple of the budget of one client IP. */
export const wideFactor = 16

/**
 * Returns an IP address in its canonical form: without port, brackets and zone, and an IPv4-mapped one as IPv4 (RFC
 * 4291, section 2.5.5.2). Returns undefined for anything else.
 */
export function canonicalAddress (text: string): string | undefined {
  const bare = /^\[(.*)\](?::\d+)?$/.exec(text)?.[1] ?? /^([0-9.]+):\d+$/.exec(text)?.[1] ?? text
  const address = bare.replace(/%.*$/, '')
  return isIP(address) ? ipaddr.process(address).toString() : undefined
}

/**
 * Returns the function that decides for Fastify which hops TRUST_PROXY trusts. Hop 0 is the peer, hop n the nth entry
 * from the end of X-Forwarded-For. No entry beyond the last 20 is trusted, so the cost of a long header is bounded.
 */
export function trustedProxies (ranges: string[]): (address: string, hop: number) => boolean {
  const isTrusted = proxyAddr.compile(ranges)
  return (address, hop) => {
    if (hop > maxForwardedEntries) return false
    const canonical = canonicalAddress(String(address))
    return canonical !== undefined && isTrusted(canonical, hop)
  }
}

/**
 * The client IP: the last entry of X-Forwarded-For that is not a trusted gateway. It is the IP of the peer if that
 * entry is not an IP address, or if the last 20 entries are all gateways: the client can choose any text for the
 * entries before these.
 */
export function clientAddress (request: FastifyRequest): string {
  const chain = request.ips as string[]
  const isRead = chain.length <= maxForwardedEntries + 1
  const forwarded = isRead ? canonicalAddress(String(chain.at(-1))) : undefined
  // Without a connection the peer has no IP either.
  return forwarded ?? canonicalAddress(String(request.socket.remoteAddress)) ?? 'unknown'
}

/**
 * Prefixes whose addresses contain an IPv4 address, with the byte at which the IPv4 address begins: NAT64 (RFC 6052,
 * section 2.1), its local prefix in the form for /96 (RFC 8215), and 6to4 (RFC 3056).
 */
const ipv4Carriers = ([['64:ff9b::/96', 12], ['64:ff9b:1::/48', 12], ['2002::/16', 2]] as const)
  .map(([cidr, start]) => ({ range: ipaddr.IPv6.parseCIDR(cidr), start }))

/**
 * The IPv4 address inside an IPv6 address of NAT64 or 6to4; undefined if there is none. Use it for counting only:
 * anyone can write any IPv4 address into a 6to4 address, so it must never be trusted as a gateway.
 */
function embeddedIpv4 (address: string): string | undefined {
  const parsed = ipaddr.IPv6.parse(address)
  const carrier = ipv4Carriers.find(({ range }) => parsed.match(range))
  return carrier && parsed.toByteArray().slice(carrier.start, carrier.start + 4).join('.')
}

/**
 * The group by which limits count a client IP: the /64 of an IPv6 address, because its owner changes addresses within
 * the /64 at will (RFC 6177, section 2), and the IPv4 address inside an address of NAT64 or 6to4.
 */
export function addressGroup (address: string): string {
  if (!address.includes(':')) return address
  return embeddedIpv4(address) ?? ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`).toString()
}

/**
 * The /48 of an IPv6 address, which one site may own as a whole (RFC 6177): limits give it `wideFactor` times the
 * budget of a client IP. Undefined for an address that counts as IPv4.
 */
export function wideAddressGroup (address: string): string | undefined {
  if (!address.includes(':') || embeddedIpv4(address)) return undefined
  return `${ipaddr.IPv6.networkAddressFromCIDR(`${address}/48`).toString()}/48`
}

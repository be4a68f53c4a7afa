import proxyAddr from '@fastify/proxy-addr'
import type { FastifyRequest } from 'fastify'
import ipaddr from 'ipaddr.js'
import { isIP } from 'node:net'

/** Entries of X-Forwarded-For that are read, counted from its end. No real chain of gateways is longer. */
const maxForwardedEntries = 20

/** How many times the budget of one client IP all clients of an IPv6 /48 have together. */
export const wideFactor = 16

/**
 * An IP address in its one canonical form: without port, brackets and zone, an IPv4-mapped one as IPv4 (RFC 4291, section
 * 2.5.5.2). Undefined for anything else.
 */
export function canonicalAddress (text: string): string | undefined {
  const bare = /^\[(.*)\](?::\d+)?$/.exec(text)?.[1] ?? /^([0-9.]+):\d+$/.exec(text)?.[1] ?? text
  const address = bare.replace(/%.*$/, '')
  return isIP(address) ? ipaddr.process(address).toString() : undefined
}

/**
 * Returns the function that tells Fastify which hops TRUST_PROXY trusts. Hop 0 is the peer, hop n the nth entry from the end
 * of X-Forwarded-For. No entry beyond the last 20 is trusted, so the cost of a long header is bounded.
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
 * The client IP: the last entry of X-Forwarded-For that is no trusted gateway. It is the IP of the peer where that entry is
 * not an IP address, and where the last 20 entries are all gateways: an entry before these is a text of the client's choice.
 */
export function clientAddress (request: FastifyRequest): string {
  const chain = request.ips as string[]
  const isRead = chain.length <= maxForwardedEntries + 1
  // Without a connection the peer has no IP either.
  return (isRead ? canonicalAddress(String(chain.at(-1))) : undefined) ?? canonicalAddress(String(request.socket.remoteAddress)) ?? 'unknown'
}

/**
 * Prefixes whose addresses carry an IPv4 address, with the byte at which it begins: NAT64 (RFC 6052, section 2.1), its local
 * prefix in the form for /96 (RFC 8215), and 6to4 (RFC 3056).
 */
const ipv4Carriers = ([['64:ff9b::/96', 12], ['64:ff9b:1::/48', 12], ['2002::/16', 2]] as const)
  .map(([cidr, start]) => ({ range: ipaddr.IPv6.parseCIDR(cidr), start }))

/**
 * The IPv4 address inside an IPv6 address of NAT64 or 6to4. It serves to count only: anyone can write any IPv4 address into
 * a 6to4 address, so it must never be trusted as a gateway.
 */
function embeddedIpv4 (address: string): string | undefined {
  const parsed = ipaddr.IPv6.parse(address)
  const carrier = ipv4Carriers.find(({ range }) => parsed.match(range))
  return carrier && parsed.toByteArray().slice(carrier.start, carrier.start + 4).join('.')
}

/**
 * What limits count a client IP by: an IPv6 address by its /64, which its owner changes within at will (RFC 6177, section 2),
 * one of NAT64 or 6to4 as the IPv4 address inside.
 */
export function addressGroup (address: string): string {
  if (!address.includes(':')) return address
  return embeddedIpv4(address) ?? ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`).toString()
}

/**
 * The /48 of an IPv6 address, which one site may own as a whole (RFC 6177): limits give it `wideFactor` times the budget of
 * a client IP. Undefined for what counts as IPv4.
 */
export function wideAddressGroup (address: string): string | undefined {
  if (!address.includes(':') || embeddedIpv4(address)) return undefined
  return `${ipaddr.IPv6.networkAddressFromCIDR(`${address}/48`).toString()}/48`
}

import proxyAddr from '@fastify/proxy-addr'
import type { FastifyRequest } from 'fastify'
import ipaddr from 'ipaddr.js'
import { isIP } from 'node:net'

/**
 * An IP address in its one canonical form: without port, brackets and zone, an IPv4-mapped one as IPv4 (RFC 4291, section
 * 2.5.5.2). Undefined for anything else.
 */
export function canonicalAddress (text: string): string | undefined {
  const bare = /^\[(.*)\](?::\d+)?$/.exec(text)?.[1] ?? /^([0-9.]+):\d+$/.exec(text)?.[1] ?? text
  const address = bare.replace(/%.*$/, '')
  return isIP(address) ? ipaddr.process(address).toString() : undefined
}

/** Decides by TRUST_PROXY whose X-Forwarded-For is believed. */
export function trustedProxies (ranges: string[]): (address: string) => boolean {
  const isTrusted = proxyAddr.compile(ranges)
  return (address) => {
    const canonical = canonicalAddress(address)
    return canonical !== undefined && isTrusted(canonical, 0)
  }
}

const peerOf = ({ socket }: FastifyRequest) => canonicalAddress(String(socket.remoteAddress)) ?? 'unknown'

/** The client's address as the gateway tells it; what is no address counts as the peer that sent it. */
export const clientAddress = (request: FastifyRequest) => canonicalAddress(request.ip) ?? peerOf(request)

/** What a client can easily change within an address does not count: IPv6 goes by its /64 (RFC 6177, section 2). */
export function addressGroup (address: string): string {
  if (!address.includes(':')) return address
  return ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`).toString()
}

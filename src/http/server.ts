import http from 'node:http'

/** Longest header block, in bytes. */
const maxHeaderBytes = 16_384
/**
 * Longest time for the head of a request and for the whole request to arrive, and how often Node checks, in
 * milliseconds.
 */
const headersTimeoutMs = 10_000
const requestTimeoutMs = 15_000
const timeoutsCheckedMs = 1000
/**
 * An idle connection lives longer here than at a gateway (mostly 60 s), so that it does not close while a request
 * arrives.
 */
const keepAliveTimeoutMs = 72_000
/** Longest silence on a connection with a request, in milliseconds; more than the longest SMS_TIMEOUT_MS. */
const connectionTimeoutMs = 75_000

/**
 * Node's HTTP server with the bounds of this service. It has no listener for `connect` and `upgrade`: Node then closes
 * the connection of a CONNECT (CONTRACT, section 4) and treats an upgrade as the plain request that it also is.
 */
export function createServer (handle: http.RequestListener): http.Server {
  const server = http.createServer({
    maxHeaderSize: maxHeaderBytes,
    // Two Authorization headers become one malformed header. A missing Host does no harm here.
    joinDuplicateHeaders: true,
    requireHostHeader: false,
    headersTimeout: headersTimeoutMs,
    requestTimeout: requestTimeoutMs,
    connectionsCheckingInterval: timeoutsCheckedMs,
    keepAliveTimeout: keepAliveTimeoutMs
  }, handle)
  server.timeout = connectionTimeoutMs
  // Node would drop header lines past the thousandth, Authorization among them. The bound in bytes is enough.
  server.maxHeadersCount = 0
  // Node's default response to an unknown expectation is a bare 417.
  server.on('checkExpectation', (request, response) => server.emit('request', request, response))
  return server
}

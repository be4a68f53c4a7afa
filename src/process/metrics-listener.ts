import { once } from 'node:events'
import { createServer } from 'node:http'
import { Registry } from 'prom-client'

interface Options { host: string, port: number }

/**
 * Responds to GET /metrics on HOST and METRICS_PORT with what `read` returns, in the text format of Prometheus 0.0.4,
 * or with 503 if `read` fails. Throws if the port is not available. If METRICS_PORT is 0, nothing listens.
 */
export async function serveMetrics ({ host, port }: Options, read: () => Promise<string>): Promise<void> {
  if (port === 0) return
  const server = createServer(async ({ method, url }, response) => {
    if (method !== 'GET' || !/^\/metrics(?:\?|$)/.test(String(url))) return response.writeHead(404).end()
    const text = await read().catch(() => undefined)
    if (text === undefined) return response.writeHead(503).end()
    response.setHeader('content-type', Registry.PROMETHEUS_CONTENT_TYPE).end(text)
  })
  server.listen(port, host)
  await once(server, 'listening').catch(({ code }: NodeJS.ErrnoException) => {
    throw new Error(`METRICS_PORT ${port} is not available (${code}): set another port, or 0 for none`)
  })
}

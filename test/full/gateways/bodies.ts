import { once } from 'node:events'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { startApplication, startGateway, startReplica, type GatewayName } from '../../helpers/gateways.js'
import { raw, head } from '../../helpers/raw.js'
import { until } from '../../helpers/server-process.js'

/* npm run test:gateways: slow clients and slow replicas, with each gateway and its file from deploy/. */
const names = (process.env.GATEWAYS ?? 'nginx,caddy,haproxy').split(',') as GatewayName[]

/** Opens a connection and sends the beginning of a request. */
async function begin (t: Test, url: string, bytes: string) {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  t.teardown(() => socket.destroy())
  const connection = { socket, text: '', isClosed: false }
  socket.on('error', () => {}).on('close', () => { connection.isClosed = true })
  socket.on('data', (chunk) => { connection.text += chunk.toString('latin1') })
  await once(socket, 'connect')
  socket.write(bytes)
  return connection
}

for (const name of names) {
  t.test(name, async (t) => {
    const setUp = async (t: Test, options = {}) => {
      const [replica, application] = [await startReplica(t, options), await startApplication(t)]
      const url = await startGateway(t, name, [replica.address, replica.address], application.address)
      return { replica, application, url }
    }

    t.test('phone-auth receives a request only after its whole body has arrived', async (t) => {
      const { replica, url } = await setUp(t)
      // The largest body that phone-auth accepts.
      const body = 'x'.repeat(16_384)
      const framings: Array<[string, string]> = [
        [`Content-Length: ${body.length}`, body],
        ['Transfer-Encoding: chunked', `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`]
      ]
      for (const [framing, bytes] of framings) {
        const path = `/auth/verify-code?${framing.slice(0, 7)}`
        const slow = await begin(t, url, head(`POST ${path}`, framing) + bytes.slice(0, -1))
        // A gateway that does not buffer bodies has forwarded this one before it has served these requests.
        for (let i = 0; i < 5; i++) t.equal((await raw({ url }, head('GET /auth/markets')))?.status, 200)
        t.notOk(replica.begun.includes(path), framing)

        slow.socket.write(bytes.slice(-1))
        await until(() => slow.text.startsWith('HTTP/1.1 200'))

        t.ok(replica.begun.includes(path))
        t.equal(replica.bodies.at(-1), body)
      }
    })

    // Caddy can limit the time of all bodies or of none.
    if (name !== 'caddy') {
      t.test('a slow body for phone-auth is aborted, a slow upload to the application is not', async (t) => {
        const { replica, application, url } = await setUp(t)
        const headers = ['Authorization: Bearer x', 'Content-Length: 50']
        const upload = await begin(t, url, head('POST /upload', ...headers) + 'x'.repeat(25))
        const slow = await begin(t, url, head('POST /auth/verify-code', ...headers) + 'x'.repeat(25))

        await until(() => slow.isClosed)
        t.match(slow.text, /^(|HTTP\/1\.1 408 .*)$/s)
        t.notOk(replica.begun.includes('/auth/verify-code'))

        t.notOk(upload.isClosed)
        upload.socket.write('x'.repeat(25))
        await until(() => upload.text.startsWith('HTTP/1.1 200'))
        t.match(application.received(), [{ url: '/upload' }])
      })
    }

    t.test('replicas whose readiness takes longer than a second stay in service', async (t) => {
      const { replica, url } = await setUp(t, { readyAfterMs: 1500 })
      const probes = () => replica.begun.filter((path) => path === '/health/ready').length

      // More probes than any gateway needs to take both replicas out of service. nginx sends no probes.
      if (name !== 'nginx') await until(() => probes() >= 6)

      for (let i = 0; i < 5; i++) {
        const response = await raw({ url }, head('GET /', 'Authorization: Bearer x'))
        t.equal(response?.status, 200)
      }
    })
  })
}

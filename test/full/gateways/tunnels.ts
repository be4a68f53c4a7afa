import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http2 from 'node:http2'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { problemOf } from '../../helpers/responses.js'
import {
  startGateway, startUpgradingApplication, type GatewayName, type ReceivedRequest
} from '../../helpers/gateways.js'
import { head, raw, type RawResponse } from '../../helpers/raw.js'
import { until } from '../../helpers/server-process.js'
import { newPhone, testService, type Json } from '../../helpers/service.js'

/* npm run test:gateways: tunnels of clients through each gateway with its file from deploy/. */
const names = (process.env.GATEWAYS ?? 'nginx,caddy,haproxy').split(',') as GatewayName[]

const http2Settings = 'HTTP2-Settings: AAMAAABkAAQAAP__'
/** Offers of protocols other than WebSocket alone. */
const offers = [
  // Java's HttpClient sends these with its first request.
  ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', http2Settings],
  ['Connection: Upgrade', 'Upgrade: H2C'],
  ['Upgrade: h2c'],
  ['Connection: keep-alive', http2Settings],
  // Apache HttpClient sends these.
  ['Connection: Upgrade', 'Upgrade: TLS/1.2'],
  ['Connection: Upgrade', 'Upgrade: websocket, h2c'],
  ['Connection: Upgrade', 'Upgrade: h2c, websocket'],
  ['Connection: Upgrade', 'Upgrade: h2c', 'Upgrade: websocket'],
  ['Connection: Upgrade, X-User-Id', 'Upgrade: connect-udp'],
  ['Connection: Upgrade', 'Upgrade: websocket2'],
  ['Connection: Upgrade', 'Upgrade: websocket/13'],
  ['Connection: Upgrade', 'Upgrade:']
]

const key = randomBytes(16).toString('base64')
/** The head of a WebSocket handshake (RFC 6455, section 4.1); `headers` hold Connection and Upgrade. */
const webSocketHead = (path: string, ...headers: string[]) => [
  `GET ${path} HTTP/1.1`, 'Host: localhost', `Sec-WebSocket-Key: ${key}`, 'Sec-WebSocket-Version: 13', ...headers, '',
  ''
].join('\r\n')

const valuesOf = ({ head }: ReceivedRequest, name: string) => head.split('\r\n')
  .filter((line) => line.toLowerCase().startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trim())

/** Sends bytes and keeps the connection open for further bytes. */
async function open (t: Test, url: string, bytes: string) {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  t.teardown(() => socket.destroy())
  let text = ''
  socket.on('error', () => {}).on('data', (chunk) => { text += chunk.toString('latin1') })
  await once(socket, 'connect')
  socket.write(bytes)
  await until(() => text.includes('\r\n\r\n') || socket.destroyed)
  return { socket, get text () { return text } }
}

for (const name of names) {
  t.test(name, async (t) => {
    const service = await testService(t)
    const application = await startUpgradingApplication(t)
    const { host } = new URL(service.url)
    const url = await startGateway(t, name, [host, host], application.address)
    const { token, user } = await service.login(newPhone())
    const bearer = `Authorization: Bearer ${token}`
    const isOfUser = (t: Test, request: ReceivedRequest, message: string) => {
      const identity = [valuesOf(request, 'x-user-id'), valuesOf(request, 'x-user-market')]
      t.strictSame(identity, [[String(user.id)], ['kg']], message)
    }
    const isPlain = (t: Test, request: ReceivedRequest, message: string) => {
      isOfUser(t, request, message)
      t.strictSame([valuesOf(request, 'upgrade'), valuesOf(request, 'http2-settings')], [[], []], message)
      t.notMatch(valuesOf(request, 'connection').join(), /upgrade|settings|x-user/i, message)
    }

    t.test('an offer of another protocol is dropped and the request gets its plain response', async (t) => {
      for (const offer of offers) {
        const message = offer.join('; ')

        const response = await raw({ url }, webSocketHead('/x', bearer, 'X-User-Id: 1', ...offer))

        const requests = application.received()
        // Envoy refuses the offers that its configuration cannot drop: 403, and 404 for CONNECT-UDP.
        const isRefused = name === 'envoy' && [403, 404].includes(Number(response?.status))
        if (isRefused) t.strictSame(requests, [], message)
        else {
          t.equal(response?.status, 200, message)
          t.equal(requests.length, 1, message)
          for (const request of requests) isPlain(t, request, message)
        }
      }
    })

    t.test('no HTTP/2 request reaches the application after Upgrade: h2c', async (t) => {
      const offer = ['GET /x HTTP/1.1', 'Host: localhost', bearer, ...offers[0] as string[], '', ''].join('\r\n')
      const { socket } = await open(t, url, offer)
      socket.removeAllListeners('data')
      const session = http2.connect(url, { createConnection: () => socket }).on('error', () => {})
      const stream = session.request({ ':path': '/admin', 'x-user-id': '1' }).on('error', () => {}).resume()

      await new Promise((resolve) => stream.on('close', resolve))

      session.destroy()
      for (const request of application.received()) isPlain(t, request, request.head)
    })

    t.test('a WebSocket opens for a live token, and the application receives its user', async (t) => {
      const spellings = [['Upgrade', 'websocket'], ['keep-alive, Upgrade', 'WebSocket'], ['upgrade', 'WEBSOCKET']]
      for (const [connection, upgrade] of spellings) {
        const lines = [`Connection: ${connection}`, `Upgrade: ${upgrade}`, 'X-User-Id: 1']
        const isRefused = await raw({ url }, webSocketHead('/ws', ...lines))
        t.equal(isRefused?.status, 401)
        t.strictSame(application.received(), [])

        const tunnel = await open(t, url, webSocketHead('/ws', bearer, ...lines))
        t.match(tunnel.text, /^HTTP\/1\.1 101 /)
        // A masked text frame, "hi" (RFC 6455, section 5.7).
        const frame = Buffer.from([0x81, 0x82, 1, 2, 3, 4, 0x68 ^ 1, 0x69 ^ 2]).toString('latin1')
        tunnel.socket.write(frame, 'latin1')
        await until(() => tunnel.text.endsWith(frame))
        tunnel.socket.destroy()

        const requests = application.received()
        t.equal(requests.length, 1)
        for (const request of requests) {
          isOfUser(t, request, request.head)
          t.strictSame(valuesOf(request, 'upgrade').map((value) => value.toLowerCase()), ['websocket'])
          t.strictSame(valuesOf(request, 'sec-websocket-key'), [key])
          t.match(valuesOf(request, 'connection').join(), /^(keep-alive, )?upgrade$/i)
        }
      }
    })

    t.test('a WebSocket that the application refuses opens no tunnel', async (t) => {
      const forged = head('GET /admin', bearer, 'X-User-Id: 1', 'X-User-Market: us')
      const handshake = webSocketHead('/no-upgrade', bearer, 'Connection: Upgrade', 'Upgrade: websocket')
      const { socket, text } = await open(t, url, handshake + forged)
      t.match(text, /^HTTP\/1\.1 200 /)
      // The forged request has Connection: close.
      await until(() => socket.destroyed)

      for (const request of application.received()) isOfUser(t, request, request.head)
    })

    t.test('CONNECT is refused, with and without a token', async (t) => {
      for (const target of ['application:8080', application.address, '/', '/auth/markets', '/api/v1/users/me']) {
        for (const lines of [[bearer], [], [bearer, 'Connection: Upgrade', 'Upgrade: websocket']]) {
          const response = await raw({ url }, head(`CONNECT ${target}`, ...lines))

          t.ok(response === undefined || response.status >= 400, `${target}: ${response?.status}`)
          t.strictSame(application.received(), [], target)
        }
      }
    })

    t.test('HTTP/2 without TLS, if a gateway supports it, makes no difference', async (t) => {
      const session = http2.connect(url).on('error', () => {})
      t.teardown(() => session.destroy())
      const forged = { authorization: `Bearer ${token}`, 'x-user-id': '1', 'x.user.id': '1' }
      const request = (headers: http2.OutgoingHttpHeaders) => new Promise<number | undefined>((resolve) => {
        const stream = session.request({ ...forged, ...headers }).on('error', () => {}).resume()
        stream.on('response', (response) => {
          resolve(response[':status'])
          stream.close()
        }).on('close', () => resolve(undefined))
      })

      const isSpoken = await request({ ':path': '/x' }) === 200
      const requests = application.received()
      t.equal(requests.length, isSpoken ? 1 : 0)
      for (const request of requests) isPlain(t, request, request.head)
      if (!isSpoken) return
      t.not(await request({ ':method': 'CONNECT', ':authority': application.address }), 200)
      t.strictSame(application.received(), [])
      await request({ ':method': 'CONNECT', ':protocol': 'h2c', ':path': '/x', ':scheme': 'http' })
      for (const request of application.received()) isPlain(t, request, request.head)
    })

    const isUnavailable = async (t: Test, url: string, path: string) => {
      const { status, headers, text } = await raw({ url }, head(`GET ${path}`, bearer)) as RawResponse
      const response = { status, headers: new Headers(headers), body: JSON.parse(text) as Json }
      t.equal(response.headers.get('content-type')?.split(';')[0], 'application/problem+json')
      t.equal(response.headers.get('retry-after'), '2')
      t.strictSame(...problemOf(response, 503, 'Service Unavailable', 'unavailable', { retry_after: 2 }))
    }

    t.test('a connection that the application closes is a 503 of the contract, its own 502 stays a 502', async (t) => {
      await isUnavailable(t, url, '/broken')
      t.equal((await raw({ url }, head('GET /502', bearer)))?.status, 502)
    })

    if (name === 'haproxy') {
      t.test('an application that does not respond in time is a 503 of the contract', async (t) => {
        const changes = { 'timeout server 65s': 'timeout server 500ms' }
        const impatient = await startGateway(t, name, [host, host], application.address, changes)

        await isUnavailable(t, impatient, '/silent')
      })
    }
  })
}

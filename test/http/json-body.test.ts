import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { until } from '../helpers/server-process.js'
import { head, rawRequest } from '../helpers/raw.js'
import { newPhone, testService } from '../helpers/service.js'

const types = [
  'application/json', 'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data',
  'application/octet-stream', 'json', '*/*', 'application/json, application/json', ';', 'garbage/', ''
]

t.test('a request with an empty body is processed whatever its Content-Type says', async (t) => {
  const service = await testService(t)

  for (const type of types) {
    const { token } = await service.login(newPhone())
    const bearer = [`Authorization: Bearer ${token}`, `Content-Type: ${type}`]
    const status = async (method: string, ...more: string[]) =>
      (await rawRequest(service.url, head(`${method} /api/v1/auth/logout`, ...bearer, ...more))).status
    t.equal(await status('POST', 'Content-Length: 0'), 200, `${type}, announced as empty`)
    t.equal(await status('POST'), 401, `${type}, without a length`)
  }
  for (const type of types) {
    const { status, body } = await rawRequest(
      service.url, head('POST /auth/send-verification', `Content-Type: ${type}`, 'Content-Length: 0')
    )
    t.match({ status, body }, { status: 422, body: { errors: [{ field: '', message: 'must be an object' }] } }, type)
  }
})

t.test('a chunked body is empty if its first chunk is the last one, otherwise refused at its first byte', async (t) => {
  const service = await testService(t)
  const request = (token: string, type: string, chunks: string) => {
    const lines = head('POST /auth/logout', `Authorization: Bearer ${token}`, type, 'Transfer-Encoding: chunked')
    return rawRequest(service.url, lines + chunks)
  }

  for (const type of ['Content-Type: application/json', 'Content-Type: text/plain', 'X: no type']) {
    const { token } = await service.login(newPhone())
    t.equal((await request(token, type, '0\r\n\r\n')).status, 200, type)
  }
  const { token } = await service.login(newPhone())
  for (const type of ['Content-Type: text/plain', 'X: no type']) {
    t.match(
      await request(token, type, '2\r\n{}\r\n0\r\n\r\n'), { status: 415, body: { code: 'unsupported_media_type' } },
      type
    )
    t.match(await request(token, type, '2\r\n{}\r\n'), { status: 415 }, `${type}, before the rest has arrived`)
  }
})

t.test('a client that disconnects in the middle of a body of unknown type ends only its own request', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  const unfinished = async (count: number) =>
    (await service.app.metrics.metrics()).includes(`phone_auth_http_unfinished_bodies ${count}\n`)
  const socket = connect(Number(new URL(service.url).port), '127.0.0.1')
  await once(socket, 'connect')
  socket.write(head(
    'POST /auth/logout', `Authorization: Bearer ${token}`, 'Content-Type: text/plain', 'Transfer-Encoding: chunked'
  ))
  await until(() => unfinished(1))

  socket.destroy()
  await until(() => unfinished(0))
  t.strictSame(service.log.map((line) => JSON.parse(line)).filter(({ level }) => level >= 50), [])
  t.equal((await service.request('GET', '/auth/verify-token', { token })).status, 200)
})

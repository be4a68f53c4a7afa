import { createServer, type AddressInfo } from 'node:net'
import { performance } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import { ready, setup } from './child.js'
import { openConnection } from './connection.js'

/*
 * The load of logins: each connection requests a code for the next number, waits for the message, exchanges the code for
 * a token, and continues with the next number. The messages arrive on a port of their own, one line each.
 */
const { users, firstPhone } = setup as { users: number, firstPhone: number }

const codes = new Map<string, string>()
const waiting = new Map<string, (code: string) => void>()
const smsPort = createServer((socket) => createInterface(socket).on('line', (line) => {
  const phone = line.slice(0, line.indexOf(' '))
  const code = line.slice(-6)
  const take = waiting.get(phone)
  if (take) take(code)
  else codes.set(phone, code)
  waiting.delete(phone)
}))

const post = (path: string, body: object) => {
  const json = JSON.stringify(body)
  return Buffer.from(`POST /api/v1/auth/${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${json.length}\r\n\r\n${json}`)
}

let next = 0

async function round ({ port, connections, seconds }: { port: number, connections: number, seconds: number }) {
  const start = performance.now()
  const end = start + seconds * 1000
  let count = 0
  await Promise.all(Array.from({ length: connections }, () => new Promise<void>((resolve) => {
    let phone = ''
    let isSent = false
    const begin = () => {
      phone = `+${firstPhone + next++ % users}`
      isSent = false
      connection.send(post('send-verification', { phone }))
    }
    const trade = (code: string) => {
      codes.delete(phone)
      isSent = true
      connection.send(post('verify-code', { phone, verification_code: code }))
    }
    const connection = openConnection(port, () => {
      const code = codes.get(phone)
      if (!isSent && code !== undefined) return trade(code)
      if (!isSent) return waiting.set(phone, trade)
      count++
      if (performance.now() < end) return begin()
      connection.close()
      resolve()
    })
    begin()
  })))
  return { count, perSecond: count * 1000 / (performance.now() - start) }
}

smsPort.listen(0, '127.0.0.1', () => ready({ port: (smsPort.address() as AddressInfo).port }, round))

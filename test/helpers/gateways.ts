import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { freePort } from './free-port.js'
import { until } from './server-process.js'
import { program, temporaryFolder } from './servers.js'

/** Replaces placeholders in a file of deploy/. Throws if one of them is not in the file. */
function substitute (text: string, values: Record<string, string>) {
  for (const [name, value] of Object.entries(values)) {
    if (!text.includes(name)) throw new Error(`${name} is not in the file`)
    text = text.replaceAll(name, value)
  }
  return text
}

const nginxTemporary = ['client_body', 'proxy', 'fastcgi', 'scgi', 'uwsgi']
/** The main file around a file for /etc/nginx/conf.d. It uses no path outside its folder. */
const nginxMain = (folder: string) => `
pid ${folder}/nginx.pid;
events { worker_connections 4096; }
http {
  access_log off;
  ${nginxTemporary.map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
  include ${folder}/nginx.conf;
}`

/** The folder, the ports and the addresses (host:port) of a test. */
interface Place { folder: string, port: number, replicas: [string, string], application: string }

interface Gateway {
  /** The Debian package with the program, if there is one. */
  debianPackage: string
  /** The name of the file in deploy/. */
  file: string
  /** The replacements in the file: addresses, and names that must be unique on a machine. */
  values: (place: Place) => Record<string, string>
  prepare?: (folder: string) => Promise<void>
  args: (folder: string) => string[]
}

const addresses = ({ replicas, application }: Place) =>
  ({ 'phone-auth-1:3000': replicas[0], 'phone-auth-2:3000': replicas[1], 'application:8080': application })

const yamlAddress = (address: string) => address.replace(':', ', port_value: ')

const gateways = {
  nginx: {
    debianPackage: 'nginx-light',
    file: 'nginx.conf',
    values: (place) => ({ ...addresses(place), 'listen 8080': `listen 127.0.0.1:${place.port}` }),
    prepare: (folder) => writeFile(join(folder, 'main.conf'), nginxMain(folder)),
    args: (folder) => ['-e', 'stderr', '-c', join(folder, 'main.conf'), '-g', 'daemon off;']
  },
  caddy: {
    debianPackage: 'caddy',
    file: 'Caddyfile',
    // The port of Caddy's admin API can be used only once on a machine.
    values: (place) => ({
      ...addresses(place),
      '(replicas) {': '{\n\tadmin off\n}\n(replicas) {',
      '\n:8080 {': `\nhttp://:${place.port} {\n\tbind 127.0.0.1`
    }),
    args: (folder) => ['run', '--adapter', 'caddyfile', '--config', join(folder, 'Caddyfile')]
  },
  haproxy: {
    debianPackage: 'haproxy',
    file: 'haproxy.cfg',
    values: (place) => ({
      ...addresses(place),
      'bind :8080': `bind 127.0.0.1:${place.port}`,
      '/etc/haproxy/': `${place.folder}/`,
      'abns@verify-token': `abns@${place.folder}`
    }),
    prepare: async (folder) => {
      const lua = await readFile('deploy/verify-token.lua', 'utf8')
      await writeFile(join(folder, 'verify-token.lua'), substitute(lua, { 'abns@verify-token': `abns@${folder}` }))
    },
    args: (folder) => ['-db', '-f', join(folder, 'haproxy.cfg')]
  },
  envoy: {
    debianPackage: 'envoy',
    file: 'envoy.yaml',
    values: ({ port, replicas, application }) => ({
      'address: phone-auth-1, port_value: 3000': `address: ${yamlAddress(replicas[0])}`,
      'address: phone-auth-2, port_value: 3000': `address: ${yamlAddress(replicas[1])}`,
      'address: application, port_value: 8080': `address: ${yamlAddress(application)}`,
      'address: 0.0.0.0, port_value: 8080': `address: 127.0.0.1, port_value: ${port}`
    }),
    args: (folder) => ['-c', join(folder, 'envoy.yaml'), '--use-dynamic-base-id', '--log-level', 'error']
  }
} satisfies Record<string, Gateway>

export type GatewayName = keyof typeof gateways

/**
 * Starts a gateway with its file from deploy/, changed by `changes`, in front of two replicas and an application.
 * Resolves with the URL when the gateway responds. The gateway ends with the test.
 */
export async function startGateway (
  t: Test, name: GatewayName, replicas: [string, string], application: string, changes: Record<string, string> = {}
) {
  const { debianPackage, file, values, prepare, args }: Gateway = gateways[name]
  const executable = program([name], debianPackage)
  const { path: folder, remove } = await temporaryFolder()
  const port = await freePort()
  await writeFile(join(folder, file), substitute(await readFile(join('deploy', file), 'utf8'), {
    ...changes,
    ...values({ folder, port, replicas, application })
  }))
  await prepare?.(folder)

  const child = spawn(executable, args(folder), {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder }
  })
  const exited = once(child, 'exit')
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => { errors += chunk })
  t.teardown(async () => {
    child.kill('SIGTERM')
    await exited
    await remove()
  })
  const url = `http://127.0.0.1:${port}`
  await until(() => {
    if (child.exitCode !== null) throw new Error(`${name} ended: ${errors}`)
    return fetch(`${url}/auth/markets`).then(({ ok }) => ok, () => false)
  })
  return url
}

type Field = [name: string, value: string]

/** Starts an application behind a gateway that records what it receives. */
export async function startApplication (t: Test) {
  const received: Array<{ method: string | undefined, url: string | undefined, headers: Field[], sha256: string }> = []
  const server = createServer(async (request, response) => {
    // A gateway aborts a request whose body is malformed.
    const body = await buffer(request).catch(() => '')
    const sha256 = createHash('sha256').update(body).digest('hex')
    const { method, url, rawHeaders } = request
    const headers = rawHeaders.flatMap((name, i): Field[] => i % 2 ? [] : [[name, rawHeaders[i + 1] as string]])
    received.push({ method, url, headers, sha256 })
    response.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** What arrived since the last call. */
    received: () => received.splice(0)
  }
}

/** A request as it arrived: its head, byte for byte, or the header fields of an HTTP/2 request as lines. */
export interface ReceivedRequest { protocol: 'HTTP/1.1' | 'HTTP/2', head: string }

/** The value of a header field in a head, or an empty string. */
const fieldOf = (head: string, name: string) => new RegExp(`^${name}: *(.*)$`, 'im').exec(head)?.[1] ?? ''

/** The head of the response that accepts an upgrade or CONNECT. */
function acceptance (head: string) {
  if (head.startsWith('CONNECT ')) return 'HTTP/1.1 200 OK\r\n\r\n'
  // RFC 6455, section 1.3.
  const key = `${fieldOf(head, 'sec-websocket-key')}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`
  const accept = createHash('sha1').update(key).digest('base64')
  return ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', `Upgrade: ${fieldOf(head, 'upgrade')}`,
    `Sec-WebSocket-Accept: ${accept}`, '', ''].join('\r\n')
}

/**
 * Starts an application that accepts every upgrade and CONNECT. It sends back what arrives through a tunnel, and reads
 * it as HTTP/2 after `Upgrade: h2c`. To `/no-upgrade` it responds 200 instead, to `/502` with 502; at `/broken` it
 * closes the connection, and `/silent` gets no response.
 */
export async function startUpgradingApplication (t: Test) {
  const received: ReceivedRequest[] = []
  const sockets = new Set<Socket>()
  const http2 = createHttp2Server().on('stream', (stream, headers) => {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}`)
    received.push({ protocol: 'HTTP/2', head: lines.join('\r\n') })
    stream.respond({ ':status': 200 }, { endStream: true })
  })
  const openTunnel = (socket: Socket, head: string) => {
    socket.removeAllListeners('data').write(acceptance(head))
    if (/^h2c/i.test(fieldOf(head, 'upgrade'))) http2.emit('connection', socket)
    else socket.pipe(socket)
  }
  const server = createTcpServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        const head = text.slice(0, end + 2)
        text = text.slice(end + 4)
        received.push({ protocol: 'HTTP/1.1', head })
        const path = head.split(' ')[1]
        if (path === '/silent') continue
        else if (path === '/broken') socket.destroy()
        else if (path !== '/no-upgrade' && /^(CONNECT |upgrade:)/im.test(head)) return openTunnel(socket, head)
        else socket.write(`HTTP/1.1 ${path === '/502' ? '502 Bad Gateway' : '200 OK'}\r\nContent-Length: 0\r\n\r\n`)
      }
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** What arrived since the last call. */
    received: () => received.splice(0)
  }
}

/**
 * Starts a stand-in for a replica of phone-auth that responds 200 to everything, to its readiness probe after
 * `readyAfterMs`. It keeps the paths of requests that have begun and the bodies that have arrived.
 */
export async function startReplica (t: Test, { readyAfterMs = 0 } = {}) {
  const begun: string[] = []
  const bodies: string[] = []
  const server = createServer(async (request, response) => {
    begun.push(request.url as string)
    // A gateway aborts a request when its client does.
    const body = await buffer(request).catch(() => undefined)
    if (!body) return
    bodies.push(body.toString('latin1'))
    if (request.url === '/health/ready') await sleep(readyAfterMs)
    response.writeHead(200, { 'x-user-id': '1', 'x-user-market': 'kg' }).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, begun, bodies }
}

/**
 * The HTTP edge: GET and PUT of 256 B over keep-alive connections, one and a hundred of them, beside a bare node:http server that
 * answers as many bytes. The clients are a process of their own. Run: `npx tsx bench/http.ts [seconds]`.
 */
import { fork } from 'node:child_process'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { MemoryServer } from '../namespace/memory/memory-server.ts'
import { startHttpEdge } from '../services/http/edge.ts'

const value = Buffer.alloc(256, 'v')

interface Job {
  readonly port: number
  readonly request: string
  readonly connections: number
  readonly seconds: number
}

if (process.send !== undefined)
  process.once('message', (job) => void run(job as Job).then((rate) => process.send!(rate, () => process.exit())))
else await main(Number(process.argv[2] ?? 3))

async function main(seconds: number): Promise<void> {
  const memory = new MemoryServer({ owner: 'bench' })
  const principal = { name: 'bench', groups: [] }
  const edge = await startHttpEdge({
    host: '127.0.0.1',
    port: 0,
    authenticate: () => principal,
    namespaceOf: () => Promise.resolve(memory),
    session: 1,
    isReady: () => true,
    metrics: () => Promise.resolve({ text: '', contentType: 'text/plain' }),
    observe: () => undefined,
  })
  const bare = createServer((request, response) => {
    request.resume().once('end', () => response.writeHead(200, { 'content-length': value.length }).end(value))
  })
  await new Promise<void>((resolve) => bare.listen(0, '127.0.0.1', resolve))
  const port = Number(edge.address.split(':').at(-1))
  const head = 'host: x\r\nauthorization: Bearer token\r\n'
  const put = `PUT /v1/fs/dir/file HTTP/1.1\r\n${head}content-length: ${value.length}\r\n\r\n${String(value)}`
  const get = `GET /v1/fs/dir/file HTTP/1.1\r\n${head}\r\n`
  await measure({ port, request: put, connections: 1, seconds: 1 })
  for (const connections of [1, 100]) {
    const barePort = (bare.address() as AddressInfo).port
    const base = await measure({ port: barePort, request: get, connections, seconds })
    const gets = await measure({ port, request: get, connections, seconds })
    const puts = await measure({ port, request: put, connections, seconds })
    const row = (name: string, rate: number): string => `${name} ${Math.round(rate)}/s (${(rate / base).toFixed(2)} of bare node:http)`
    console.log(`${connections} connections: bare ${Math.round(base)}/s, ${row('GET 256 B', gets)}, ${row('PUT 256 B', puts)}`)
  }
  await edge.close(0)
  bare.close()
  bare.closeAllConnections()
  memory.close()
  console.log(`memory after: ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB resident`)
}

function measure(job: Job): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = fork(import.meta.filename, { execArgv: process.execArgv })
    child.once('message', (rate) => resolve(rate as number)).once('error', reject)
    child.send(job)
  })
}

/** Requests a second, each connection one at a time. */
async function run({ port, request, connections, seconds }: Job): Promise<number> {
  const bytes = Buffer.from(request)
  let answered = 0
  const sockets = await Promise.all(Array.from({ length: connections }, () => dial(port)))
  for (const socket of sockets) {
    let missing = 0
    socket.on('data', (part) => {
      if (missing === 0) {
        const end = part.indexOf('\r\n\r\n')
        const length = /content-length: (\d+)/i.exec(part.toString('latin1', 0, end))
        if (end === -1 || length === null || !part.toString('latin1', 9, 12).startsWith('2')) throw new Error(part.toString())
        missing = end + 4 + Number(length[1])
      }
      missing -= part.length
      if (missing > 0) return
      answered++
      socket.write(bytes)
    })
    socket.write(bytes)
  }
  await new Promise((resolve) => setTimeout(resolve, 300))
  const before = answered
  const begun = performance.now()
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  const rate = ((answered - before) * 1000) / (performance.now() - begun)
  for (const socket of sockets) socket.destroy()
  return rate
}

function dial(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket.setNoDelay()))
    socket.once('error', reject)
  })
}

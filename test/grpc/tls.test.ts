/** The port over TLS, with authorities of the test's own: sessions in both transports, and who is turned away. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import { owner, startNode } from './node.ts'
import type { TestNode } from './node.ts'

interface Certificate {
  readonly key: Buffer
  readonly cert: Buffer
}

const context = (): ReturnType<typeof contextFor> => contextFor(owner)
const file = parsePath('/file')

let own: Certificate
let strange: Certificate
let memory: MemoryServer
let node: TestNode
const sockets: Socket[] = []

beforeAll(() => {
  own = makeCertificate()
  strange = makeCertificate()
})

beforeEach(async () => {
  memory = new MemoryServer({ owner: owner.name })
  await memory.write(context(), file, Buffer.from('value'))
  node = await startNode(memory, { tls: own, limits: { handshake_ms: 300 } })
})

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await node.close()
  memory.close()
})

afterAll(() => expect(sockets).toEqual([]))

describe.each(['tcp', 'grpc'] as const)('TLS over %s', (transport) => {
  it('carries a session, frames of many records included', async () => {
    const session = await node.connect({ transport, tls: { ca: own.cert, serverName: 'localhost' } })
    const bytes = Buffer.alloc(3_000_000, 'ninefold')
    await session.server.write(context(), parsePath('/large'), bytes)
    expect(Buffer.from((await session.server.read(context(), parsePath('/large'))).bytes).equals(bytes)).toBe(true)
    expect(session.node).toBe('test-node')
  })

  it('is refused by a client that does not know the authority, or another name', async () => {
    const connectWith = (ca: Buffer, serverName: string): Promise<unknown> => node.connect({ transport, tls: { ca, serverName } })
    await expect(connectWith(strange.cert, 'localhost')).rejects.toMatchObject({ kind: 'unavailable' })
    await expect(connectWith(own.cert, 'another.example')).rejects.toMatchObject({ kind: 'unavailable' })
    expect(node.edge.sessions).toBe(0)
  })

  it('a plain client is turned away, and others are served', async () => {
    await expect(node.connect({ transport })).rejects.toMatchObject({ kind: 'unavailable' })
    const session = await node.connect({ transport, tls: { ca: own.cert, serverName: 'localhost' } })
    expect((await session.server.read(context(), file)).bytes.length).toBe(5)
  })
})

describe('a client', () => {
  it('says in plain words why TLS did not come to be', async () => {
    const { transport, ca, serverName } = { transport: 'tcp', ca: own.cert, serverName: 'localhost' } as const
    await expect(node.connect({ transport, tls: { ca: strange.cert, serverName } })).rejects.toMatchObject({
      message: expect.stringMatching(/: its certificate is not one of the authority in --tls-ca \(/) as string,
    })
    await expect(node.connect({ transport })).rejects.toMatchObject({
      message: expect.stringMatching(/ without an answer: it may ask for TLS, or be no node$/) as string,
    })
    const plain = await startNode(memory)
    await expect(plain.connect({ transport, tls: { ca, serverName } })).rejects.toMatchObject({
      message: expect.stringMatching(/: it speaks no TLS$|before secure TLS connection was established$/) as string,
    })
    await plain.close()
  })
})

describe('a TLS port', () => {
  it('ends plain text, a handshake that never comes, and a client that says nothing after it', async () => {
    const plain = dial()
    plain.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    const said = untilClosed(plain)
    const silent = untilClosed(dial())
    const half = dial()
    half.write(Buffer.from('160301', 'hex'))
    const quiet = connectTls({ ...addressOf(node), ca: own.cert, servername: 'localhost' })
    sockets.push(quiet)
    expect(await said).not.toMatch(/HTTP/)
    await Promise.all([silent, untilClosed(half), untilClosed(quiet)])
  })

  it('closes within its grace, whatever handshakes are under way', async () => {
    const slow = await startNode(memory, { tls: own })
    const silent = connect(addressOf(slow))
    sockets.push(silent)
    await new Promise((resolve) => silent.once('connect', resolve))
    const closed = untilClosed(silent)
    // Whoever was accepted after it has been seen after it.
    const session = await slow.connect({ tls: { ca: own.cert, serverName: 'localhost' } })
    await session.close()
    const begun = performance.now()
    await slow.close()
    expect(performance.now() - begun).toBeLessThan(5_000)
    await closed
  })
})

function addressOf({ edge }: TestNode): { host: string; port: number } {
  return { host: '127.0.0.1', port: Number(edge.address.split(':')[1]) }
}

function dial(): Socket {
  const socket = connect(addressOf(node))
  sockets.push(socket)
  return socket
}

/** What came until the connection closed. */
function untilClosed(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(text))
  })
}

/** Signed by itself: its own authority. */
function makeCertificate(): Certificate {
  const dir = mkdtempSync(join(tmpdir(), 'nine-tls-'))
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const files = ['-keyout', join(dir, 'key'), '-out', join(dir, 'cert')]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
  execFileSync('openssl', ['req', '-x509', ...curve, '-nodes', '-days', '1', ...subject, ...files], { stdio: 'ignore' })
  const made = { key: readFileSync(join(dir, 'key')), cert: readFileSync(join(dir, 'cert')) }
  rmSync(dir, { recursive: true })
  return made
}

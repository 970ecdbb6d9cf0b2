/** Bytes on the port that no peer would send: nothing breaks, nothing is kept, and peers are served all the same. */
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import type { ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { PacketWriter } from '../../services/peer/codec.ts'
import { callHeaders, withPrefix } from '../../services/peer/grpc-stream.ts'
import { decodeOpening, encodeHello, encodeOpening, proofOf } from '../../services/peer/hello.ts'
import { callPath } from '../../services/peer/own.ts'
import type { CallKind } from '../../services/peer/own.ts'
import { closeNodes, connected, introduce, startNode } from './nodes.ts'
import type { TestNode } from './nodes.ts'

const sockets: { destroy(): unknown }[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await closeNodes()
})

function dial(node: TestNode): Socket {
  const [host, port] = node.peer.address.split(':')
  const socket = connect({ host: host!, port: Number(port) })
  socket.on('error', () => undefined)
  sockets.push(socket)
  return socket
}

/** The node closed it. */
function closed(socket: Socket): Promise<unknown> {
  socket.resume()
  return new Promise((resolve) => socket.on('close', resolve))
}

/** A call by hand. */
function call(node: TestNode, kind: CallKind, path: string = callPath[kind]): ClientHttp2Stream {
  const session = connectHttp2(`http://${node.peer.address}`)
  session.on('error', () => undefined)
  sockets.push(session)
  const stream = session.request(callHeaders(path, false, node.peer.address))
  stream.on('error', () => undefined)
  return stream
}

/** Status that a call ends with. */
function statusOf(stream: ClientHttp2Stream): Promise<string> {
  return new Promise((resolve) => {
    const look = (headers: IncomingHttpHeaders): void => {
      if (headers['grpc-status'] !== undefined)
        resolve(`${String(headers['grpc-status'])} ${decodeURIComponent(String(headers['grpc-message']))}`)
    }
    stream.on('response', look)
    stream.on('trailers', look)
    stream.on('close', () => resolve('closed'))
    stream.resume()
  })
}

/** A call whose hello is over, as member n1.a. */
async function opened(node: TestNode, kind: CallKind): Promise<ClientHttp2Stream> {
  const stream = call(node, kind)
  const fields = { features: [], cluster: 'c1', from: 'n1.a', to: 'n2.b', address: '127.0.0.1:1', nonce: Buffer.alloc(32, 1) }
  const hello = encodeHello({ versions: { min: 1, max: 1 }, ...fields })
  stream.write(withPrefix(encodeOpening({ hello })))
  const [answer] = (await once(stream, 'data')) as [Buffer]
  const { welcome } = decodeOpening(answer, 5, answer.length)
  stream.write(withPrefix(encodeOpening({ proof: proofOf('a secret of the cluster', 'dialler', callPath[kind], hello, welcome!) })))
  return stream
}

async function stillServes(node: TestNode): Promise<void> {
  const other = await startNode('n3.c')
  introduce(other, node)
  await connected(other, node)
}

function messageOf(items: Buffer): Buffer {
  return withPrefix(Buffer.concat([Buffer.of(0x22, items.length), items]))
}

describe('garbage on the port of peers', () => {
  it.each([
    ['random bytes', Buffer.from(Array.from({ length: 4_000 }, (_, i) => (i * 7919 + 13) % 251))],
    ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['the preface of HTTP/2 and then nonsense', Buffer.from(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${'nonsense'.repeat(10)}`)],
    [
      'a frame of HTTP/2 that claims 16 MiB',
      Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.from('ffffff000000000001', 'hex')]),
    ],
    ['TLS', Buffer.from('16030100c8010000c40303', 'hex')],
  ])('%s', async (_what, bytes) => {
    const node = await startNode('n2.b', { limits: { peer_dial_ms: 300 } })
    const socket = dial(node)
    socket.write(bytes)
    await closed(socket)
    await node.until(() => node.events.length === 1)
    expect(node.events[0]).toMatchObject({ event: 'garbage', peer: '127.0.0.1' })
    expect(node.peer.status()).toMatchObject({ garbage: 1, connections: 0 })
    await stillServes(node)
  })

  it('half a frame, and nothing, for long', async () => {
    const node = await startNode('n2.b', { limits: { peer_dial_ms: 50 } })
    const half = dial(node)
    half.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    half.write(Buffer.from('000012', 'hex'))
    await Promise.all([closed(half), closed(dial(node))])
    expect(node.peer.status()).toMatchObject({ garbage: 2, connections: 0 })
    await stillServes(node)
  })

  it.each([
    ['no hello', withPrefix(encodeOpening({ proof: Buffer.alloc(32) })), /first message is no hello/],
    ['a hello that is none', withPrefix(encodeOpening({ hello: Buffer.from('080108020801', 'hex') })), /lacks its sender/],
    ['items before the hello', messageOf(Buffer.of(34, 1)), /before the hello is over/],
    ['a claim of 4 GiB', Buffer.from('00ffffffff', 'hex'), /claims 4294967295 bytes, the limit is 16384/],
    ['a compressed message', Buffer.from('0100000000', 'hex'), /compressed/],
    ['a text that is no UTF-8', withPrefix(encodeOpening({ hello: Buffer.from('2202fffe', 'hex') })), /UTF-8/],
  ])('a call with %s', async (_what, bytes, text) => {
    const node = await startNode('n2.b')
    const stream = call(node, 'items')
    const status = statusOf(stream)
    stream.write(bytes)
    expect(await status).toMatch(/^3 /)
    expect(await status).toMatch(text)
    expect(node.peer.status().garbage).toBe(1)
    expect(node.events).toMatchObject([{ event: 'garbage', error: { kind: 'invalid' } }])
    await stillServes(node)
  })

  it.each([
    ['an item of no kind', messageOf(Buffer.of(99)), /no kind of item/],
    ['a snapshot that was never brought', messageOf(Buffer.of(15, 1, 7, 9, 7, 1, 4, 110, 49, 46, 97, 0, 0, 0)), /no kind of item/],
    ['half an item', messageOf(Buffer.of(4, 1)), /ends in the middle/],
    ['an answer', messageOf(Buffer.of(49, 1, 0)), /an answer came/],
    ['a claim past the limit', Buffer.from('00ffffffff', 'hex'), /the limit is 16777216/],
    ['bytes behind a valid item', messageOf(Buffer.of(34, 7, 255)), /ends in the middle/],
  ])('of a member: %s', async (what, bytes, text) => {
    const node = await startNode('n2.b')
    const stream = await opened(node, 'items')
    const status = statusOf(stream)
    stream.write(bytes)
    expect(await status).toMatch(text)
    expect(node.received.length).toBe(what.startsWith('bytes behind') ? 1 : 0)
    expect(node.events).toMatchObject([{ event: 'garbage', peer: 'n1.a' }])
    await stillServes(node)
  })

  it('items where only requests belong, and requests that nothing answers', async () => {
    const node = await startNode('n2.b')
    const stream = await opened(node, 'bulk')
    const status = statusOf(stream)
    const writer = new PacketWriter()
    writer.item({ kind: 'beat', life: 1 })
    stream.write(writer.take())
    expect(await status).toMatch(/an item of Raft came on a bulk call/)
    const other = await opened(node, 'bulk')
    for (const verb of ['nothing', 'chunk.get', 'snapshot.part', 'snapshot.begin', 'chunk.put', 'chunk.missing']) {
      writer.request(1, 0, 0, verb, Buffer.alloc(7, 255))
      other.write(writer.take())
      const [answer] = (await once(other, 'data')) as [Buffer]
      expect(answer[10]).toBe(50)
    }
    expect(node.received).toEqual([])
  })

  it('a wrong proof, and none', async () => {
    for (const proof of [Buffer.alloc(32, 9), Buffer.alloc(0)]) {
      const node = await startNode('n2.b')
      const stream = call(node, 'items')
      const fields = { features: [], cluster: 'c1', from: 'n1.a', to: 'n2.b', address: '', nonce: Buffer.alloc(32, 1) }
      stream.write(withPrefix(encodeOpening({ hello: encodeHello({ versions: { min: 1, max: 1 }, ...fields }) })))
      await once(stream, 'data')
      const status = statusOf(stream)
      const beat = new PacketWriter()
      beat.item({ kind: 'beat', life: 1 })
      stream.write(Buffer.concat([withPrefix(encodeOpening({ proof })), beat.take()]))
      expect(await status).toMatch(/^16 n1\.a at .* does not know the secret of this cluster/)
      expect(node.received).toEqual([])
      expect(node.peer.status()).toMatchObject({ refused: 1, peers: [] })
      await node.close()
    }
  })

  it('calls that there are none of, and HTTP without gRPC', async () => {
    const node = await startNode('n2.b')
    expect(await statusOf(call(node, 'items', '/nine.v1.Peer/Other'))).toMatch(/^12 /)
    const session = connectHttp2(`http://${node.peer.address}`)
    sockets.push(session)
    const [headers] = (await once(session.request({ ':path': '/' }), 'response')) as [IncomingHttpHeaders]
    expect(headers[':status']).toBe(415)
    await stillServes(node)
  })

  it('idle connections in any number keep no peer out', async () => {
    const node = await startNode('n2.b', { limits: { peer_handshakes_max: 8, peer_connections_max: 20 } })
    const flood = Array.from({ length: 100 }, () => dial(node))
    const ends = flood.map(closed)
    await Promise.all(ends.slice(0, 80))
    await stillServes(node)
    for (const socket of flood) if (!socket.destroyed) expect(node.peer.status().connections).toBeLessThanOrEqual(9)
    const { crowded, connections } = node.peer.status()
    expect(crowded).toBeGreaterThanOrEqual(92)
    expect(connections).toBeLessThanOrEqual(9)
    expect(node.events.length).toBe(1)
  })
})

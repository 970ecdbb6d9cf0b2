/** How a program finds a node and what it is told when it cannot. */
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { connect } from '../../sdk/connect.ts'
import { serve } from '../../sdk/serve.ts'
import { defineService } from '../../sdk/service.ts'
import { failure, TestNode } from '../node/running.ts'

let node: TestNode

beforeAll(async () => {
  node = await TestNode.start()
}, 60_000)

afterAll(() => node.close())

describe('connect', () => {
  const kept = { ...process.env }
  afterEach(() => {
    for (const name of ['NINE_ADDR', 'NINE_TOKEN_FILE', 'NINE_DATA']) {
      if (kept[name] === undefined) delete process.env[name]
      else process.env[name] = kept[name]
    }
  })

  it('finds the node by its options, by the environment, by the default folder', async () => {
    const { grpc, tokenFile } = node.node
    const byFile = await connect({ address: grpc, tokenFile })
    expect(byFile.client.principal).toEqual({ name: 'owner', groups: [] })
    await byFile.close()
    process.env['NINE_ADDR'] = grpc
    process.env['NINE_TOKEN_FILE'] = tokenFile
    const byEnvironment = await connect()
    expect(await byEnvironment.client.exists('/data')).toBe(true)
    await byEnvironment.close()
    delete process.env['NINE_TOKEN_FILE']
    process.env['NINE_DATA'] = node.data
    await (await connect()).close()
  })

  it('says which token file is missing and what to do', async () => {
    const tokenFile = join(node.folder, 'nothing')
    const error = await failure(connect({ address: node.node.grpc, tokenFile }), 'unauthenticated')
    expect(error.message).toContain(tokenFile)
    expect(error.message).toContain('nine up')
  })

  it('is refused with a token nobody has, and with none', async () => {
    await failure(connect({ address: node.node.grpc, token: 'nine_nobody' }), 'unauthenticated')
    await failure(connect({ address: node.node.grpc, token: '' }), 'unauthenticated')
    const tokenFile = join(node.folder, 'empty')
    await writeFile(tokenFile, '')
    await failure(connect({ address: node.node.grpc, tokenFile }), 'unauthenticated')
  })

  it('is unavailable where no node listens, or something else does', async () => {
    expect((await failure(connect({ address: node.node.http, token: node.token }), 'unavailable')).message).toContain('gRPC address')
    const other = createServer((socket) => socket.resume().end('HTTP/1.0 400 Bad Request\r\n\r\n'))
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const address = `127.0.0.1:${(other.address() as AddressInfo).port}`
    const answered = await connect({ address, token: 'x' }).catch((error: unknown) => error)
    expect(answered).toMatchObject({ name: 'NineError' })
    await new Promise((resolve) => other.close(resolve))
    const error = await failure(connect({ address, token: 'x' }), 'unavailable')
    expect(error.message).toContain(address)
    await failure(connect({ address: 'no address', token: 'x' }), 'invalid')
  })

  it('speaks over gRPC as well', async () => {
    const session = await node.connect({ transport: 'grpc' })
    await session.client.write('/data/grpc', 'x')
    expect(await session.client.readText('/data/grpc')).toBe('x')
  })

  it('gives functions that may be taken out of it, also of one that serves', async () => {
    const { client, control, close } = await node.connect()
    expect(await client.exists('/data')).toBe(true)
    expect(await control('token.list', undefined)).toHaveProperty('principals')
    await close()
    const serving = await node.serve(defineService('taken', {}))
    const { withdraw, control: ask, close: end } = serving
    expect(await ask('token.list', undefined)).toHaveProperty('principals')
    await withdraw()
    await end()
  })

  it('fails at once after close, and closes twice', async () => {
    const session = await node.connect()
    await session.close()
    await session.close()
    const before = performance.now()
    await failure(session.client.stat('/'), 'unavailable')
    expect(performance.now() - before).toBeLessThan(limits.reconnect_ms_max / 2)
  })
})

describe('namespace', () => {
  it('binds for this session alone; what is saved is there in the next', async () => {
    const one = await node.connect()
    const two = await node.connect()
    await one.client.write('/data/ns/a', 'a', { parents: true })
    await one.namespace.bind('/data/ns', '/data/bound')
    expect(await one.client.readText('/data/bound/a')).toBe('a')
    expect(await two.client.exists('/data/bound/a')).toBe(false)
    expect((await one.namespace.entries()).map((entry) => entry.text)).toContain('bind /data/ns /data/bound')
    await one.namespace.unmount('/data/bound')
    expect(await one.client.exists('/data/bound/a')).toBe(false)
    await one.namespace.save('bind /data/ns /data/bound')
    const three = await node.connect()
    expect(await three.client.readText('/data/bound/a')).toBe('a')
    await three.namespace.save('unmount /data/bound')
    const four = await node.connect()
    expect(await four.client.exists('/data/bound/a')).toBe(false)
    await failure(four.namespace.save('nonsense'), 'invalid')
    await failure(four.namespace.bind('data', '/x'), 'invalid')
  })

  it('comes back with its binds when the connection is made again', async () => {
    const session = await node.connect()
    await session.client.write('/data/again/a', 'a', { parents: true })
    await session.namespace.bind('/data/again', '/data/rebound')
    await node.start(await node.stop())
    expect(await session.client.readText('/data/rebound/a')).toBe('a')
  })
})

describe('serve', () => {
  it('tells what is wrong with a service before it serves', async () => {
    const { grpc: address } = node.node
    const options = { address, token: node.token }
    await failure(serve(defineService('no/name', {}), options), 'invalid')
    await failure(serve(defineService('x', {}), { ...options, token: 'nine_nobody' }), 'unauthenticated')
    await failure(serve(defineService('x', {}, { namespace: 'mount' }), options), 'invalid')
    await failure(serve(defineService('x', {}, { namespace: 'mount nothing /nothing' }), options), 'not_found')
    const session = await node.connect()
    expect(await session.client.exists('/svc/x')).toBe(false)
  })
})

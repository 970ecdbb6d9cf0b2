/** The faulty network that other tests rely on does what it says. */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startProxy } from './proxy.ts'
import type { FaultProxy } from './proxy.ts'

let server: Server
let proxy: FaultProxy
const sockets: Socket[] = []
let served: Socket[] = []

/** Echoes what it gets. */
beforeEach(async () => {
  served = []
  server = createServer((socket) => {
    sockets.push(socket)
    served.push(socket)
    socket.on('error', () => undefined)
    socket.pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  proxy = await startProxy(`127.0.0.1:${(server.address() as AddressInfo).port}`)
})

afterEach(async () => {
  await proxy.close()
  for (const socket of sockets.splice(0)) socket.destroy()
  server.close()
})

async function dial(): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: Number(proxy.address.split(':')[1]) })
  sockets.push(socket)
  await once(socket, 'connect')
  return socket
}

async function echoed(socket: Socket, text: string): Promise<string> {
  socket.write(text)
  let got = ''
  while (got.length < text.length) got += ((await once(socket, 'data')) as [Buffer])[0].toString()
  return got
}

describe('the faulty proxy', () => {
  it('passes bytes both ways', async () => {
    const socket = await dial()
    expect(await echoed(socket, 'x'.repeat(300_000))).toBe('x'.repeat(300_000))
    expect(proxy.passed).toEqual({ toTarget: 300_000, fromTarget: 300_000 })
  })

  it('resets connections, and takes new ones', async () => {
    const socket = await dial()
    await echoed(socket, 'a')
    const failed = once(socket, 'error') as Promise<[NodeJS.ErrnoException]>
    proxy.cut()
    expect((await failed)[0].code).toBe('ECONNRESET')
    expect(await echoed(await dial(), 'b')).toBe('b')
  })

  it('can leave the half of one side open', async () => {
    const socket = await dial()
    await echoed(socket, 'a')
    const atTarget = new Promise((resolve) => served[0]!.on('close', resolve))
    proxy.cut('target')
    await atTarget
    expect(socket.destroyed).toBe(false)
    expect(proxy.open).toBe(1)
  })

  it('refuses as the system does, and listens at the same address again', async () => {
    await proxy.refuse()
    await expect(dial()).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await proxy.resume()
    expect(await echoed(await dial(), 'b')).toBe('b')
  })

  it('holds what is stalled, one way or both, and passes it after', async () => {
    const socket = await dial()
    await echoed(socket, 'a')
    proxy.stall('fromTarget')
    socket.write('b')
    while (proxy.passed.toTarget < 2) await new Promise(setImmediate)
    expect(proxy.passed.fromTarget).toBe(1)
    const came = once(socket, 'data') as Promise<[Buffer]>
    await proxy.resume()
    expect((await came)[0].toString()).toBe('b')
  })

  it('delays without changing the order', async () => {
    const socket = await dial()
    proxy.delay(50, 'toTarget')
    const begun = performance.now()
    expect(await echoed(socket, 'abc')).toBe('abc')
    expect(performance.now() - begun).toBeGreaterThan(45)
  })

  it('cuts after so many bytes', async () => {
    const socket = await dial()
    proxy.cutAfter(3, 'toTarget')
    const cut = proxy.nextCut()
    socket.on('error', () => undefined)
    socket.write('abcdef')
    await cut
    expect(proxy.passed.toTarget).toBe(3)
  })

  it('loses what a blackhole takes and cuts its connections when it ends', async () => {
    const socket = await dial()
    await echoed(socket, 'a')
    proxy.blackhole()
    const lost = await dial()
    lost.write('b')
    socket.write('c')
    const ends = Promise.all([once(socket, 'error'), once(lost, 'error')])
    await proxy.resume()
    await ends
    expect(await echoed(await dial(), 'd')).toBe('d')
    expect(proxy.passed).toEqual({ toTarget: 2, fromTarget: 2 })
  })
})

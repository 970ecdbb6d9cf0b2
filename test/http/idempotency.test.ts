/** Idempotency-Key: once, with the first answer, errors included. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { NineError } from '../../namespace/errors.ts'
import { call } from '../../namespace/serve/entries.ts'
import { serveTable } from '../../namespace/serve/table-server.ts'
import { openEngine } from '../../storage/engine/engine.ts'
import { dial } from './raw.ts'
import { startEdge } from './start.ts'
import type { StartOptions, Started } from './start.ts'

let http: Started
afterEach(() => http.close())
const start = async (options?: StartOptions): Promise<void> => {
  http = await startEdge(options)
}

interface Seen {
  readonly status: number
  readonly body: string
  readonly etag: string | null
}

async function send(
  method: string,
  target: string,
  key: string,
  body?: RequestInit['body'],
  headers: Record<string, string> = {},
  token = http.owner,
): Promise<Seen> {
  const response = await http.fetch(target, {
    method,
    body: body ?? null,
    headers: { 'idempotency-key': key, authorization: `Bearer ${token}`, ...headers },
  })
  return { status: response.status, body: await response.text(), etag: response.headers.get('etag') }
}
const kind = ({ status, body }: Seen): [number, unknown] => [status, (JSON.parse(body) as Record<string, unknown>)['kind']]
const size = async (path: string): Promise<number> => (await http.memory.stat(http.context(), parsePath(path))).stat.size!

describe('Idempotency-Key', () => {
  it('gives a replay the first answer, of every change', async () => {
    await start()
    await send('PUT', '/g', 'g', 'g')
    const requests: [string, string, string | undefined][] = [
      ['PUT', '/f?append', 'x'],
      ['POST', '/d?mkdir', undefined],
      ['PATCH', '/f', '{"mode":384}'],
      ['POST', '/f?rename=/g&replace', undefined],
      ['DELETE', '/g', undefined],
    ]
    for (const [i, [method, target, body]] of requests.entries()) {
      const first = await send(method, target, `k${i}`, body)
      expect([target, Math.floor(first.status / 100)]).toEqual([target, 2])
      expect(await send(method, target, `k${i}`, body)).toEqual(first)
    }
    const body = JSON.stringify({ then: [{ op: 'write', path: '/t', at: 'append', bytes: 'eA==' }] })
    const headers = { authorization: `Bearer ${http.owner}`, 'idempotency-key': 'txn' }
    const txn = async (): Promise<string> => (await fetch(`${http.origin}/v1/txn`, { method: 'POST', body, headers })).text()
    expect(await txn()).toBe(await txn())
    expect(await size('/t')).toBe(1)
  })

  it('gives a replay the first refusal, though it would succeed now', async () => {
    await start()
    const first = await send('PUT', '/f', 'k', 'x', { 'if-match': '*' })
    expect(kind(first)).toEqual([412, 'conflict'])
    await send('PUT', '/f', 'other', 'y')
    expect(await send('PUT', '/f', 'k', 'x', { 'if-match': '*' })).toEqual(first)
    const missing = await send('DELETE', '/gone', 'k2')
    await send('PUT', '/gone', 'k3', 'y')
    expect(await send('DELETE', '/gone', 'k2')).toEqual(missing)
  })

  it('gives a replay the first answer though the condition no longer holds', async () => {
    await start()
    const { etag } = await send('PUT', '/f', 'k', 'x', { 'if-none-match': '*' })
    expect((await send('PUT', '/f', 'k', 'x', { 'if-none-match': '*' })).status).toBe(201)
    const second = await send('PUT', '/f', 'k2', 'y', { 'if-match': etag! })
    expect(second.status).toBe(200)
    expect(await send('PUT', '/f', 'k2', 'y', { 'if-match': etag! })).toEqual(second)
    const large = Buffer.alloc(4_500_000, 'z')
    const third = await send('PUT', '/f', 'k3', large, { 'if-match': second.etag! })
    expect(third.status).toBe(200)
    expect(await send('PUT', '/f', 'k3', large, { 'if-match': second.etag! })).toEqual(third)
    const removed = await send('DELETE', '/f', 'k4', undefined, { 'if-match': third.etag! })
    expect(await send('DELETE', '/f', 'k4', undefined, { 'if-match': third.etag! })).toEqual(removed)
  })

  it('is kept by the tree as well, for when the edge has forgotten', async () => {
    await start({ limits: { idempotency_keys_max: 0 } })
    const { etag } = await send('PUT', '/f', 'k', 'x')
    const second = await send('PUT', '/f', 'k2', 'y', { 'if-match': etag! })
    await send('PUT', '/f', 'k3', 'later')
    expect(await send('PUT', '/f', 'k2', 'y', { 'if-match': etag! })).toEqual(second)
    expect(kind(await send('PUT', '/f', 'k2', 'z', { 'if-match': etag! }))).toEqual([400, 'invalid'])
  })

  it('is kept over a restart by a store on disk, keys of every length', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'nine-keys-'))
    const key = 'k'.repeat(255)
    let first: Seen | undefined
    try {
      for (const body of ['x', 'x', 'y']) {
        const engine = await openEngine({ dir, owner: 'owner' })
        const store = first === undefined ? await engine.createStore('data') : engine.store('data')
        await start({ wrap: () => store })
        const seen = await send('PUT', '/f?append', key, body)
        if (body === 'y') expect(kind(seen)).toEqual([400, 'invalid'])
        else expect(seen).toEqual((first ??= seen))
        expect(await (await http.fetch('/f')).text()).toBe('x')
        await http.close()
        await engine.close()
      }
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  })

  it('refuses another request under the key, small or large', async () => {
    await start()
    const large = Buffer.alloc(4_500_000, 'z')
    await send('PUT', '/f', 'k', 'x')
    await send('PUT', '/l', 'large', large)
    const others = [
      () => send('PUT', '/f', 'k', 'y'),
      () => send('PUT', '/other', 'k', 'x'),
      () => send('PUT', '/f?append', 'k', 'x'),
      () => send('DELETE', '/f', 'k'),
      () => send('PUT', '/f', 'k', 'x', { 'if-match': '*' }),
      () => send('PUT', '/f', 'k', large),
      () => send('PUT', '/l', 'large', Buffer.alloc(4_500_001, 'z')),
      () => send('PUT', '/l', 'large', 'x'),
    ]
    for (const other of others) expect(kind(await other())).toEqual([400, 'invalid'])
    expect([await size('/f'), await size('/l')]).toEqual([1, 4_500_000])
  })

  it('belongs to its principal', async () => {
    await start()
    await http.memory.setRights(http.context(), parsePath('/'), [{ who: '*', rights: ['read', 'write', 'list', 'create'] }])
    expect((await send('PUT', '/f', 'k', 'x')).status).toBe(201)
    expect((await send('PUT', '/g', 'k', 'y', {}, http.guest)).status).toBe(201)
  })

  it('acts once for duplicates at the same time', async () => {
    await start()
    const small = await Promise.all(Array.from({ length: 20 }, () => send('PUT', '/f?append', 'k', 'x')))
    for (const one of small) expect(one).toEqual(small[0])
    const body = Buffer.alloc(4_500_000, 'z')
    const large = await Promise.all(Array.from({ length: 4 }, () => send('PUT', '/l?append', 'large', body)))
    for (const one of large) expect(one).toEqual(large[0])
    expect([await size('/f'), await size('/l')]).toEqual([1, 4_500_000])
  })

  it('is free again when the client left before the end of its body', async () => {
    await start()
    const socket = await dial(http.port)
    socket.write(
      `PUT /v1/fs/f HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${http.owner}\r\nidempotency-key: k\r\ncontent-length: 5000000\r\n\r\nabc`,
    )
    const replay = send('PUT', '/f', 'k', Buffer.alloc(5_000_000, 'z'))
    socket.destroy()
    const first = await replay
    if (first.status !== 201) expect(kind(first)).toEqual([503, 'unavailable'])
    expect([200, 201]).toContain((await send('PUT', '/f', 'k', Buffer.alloc(5_000_000, 'z'))).status)
    expect(await size('/f')).toBe(5_000_000)
  })

  it('does not keep what goes away by itself', async () => {
    let isFull = true
    const wrap = (server: FileServer): FileServer =>
      new Proxy(server, {
        get: (target, name) => {
          if (name === 'write' && isFull)
            return () => Promise.reject(new NineError({ kind: 'no_space', op: 'test.write', message: 'full' }))
          return Reflect.get(target, name, target) as unknown
        },
      })
    await start({ wrap })
    expect(kind(await send('PUT', '/f', 'k', 'x'))).toEqual([507, 'no_space'])
    isFull = false
    expect((await send('PUT', '/f', 'k', 'x')).status).toBe(201)
  })

  it('keeps a refusal that the tree did not keep', async () => {
    let tries = 0
    const mkdir = (): Promise<never> => Promise.reject(new NineError({ kind: 'unsupported', op: 'test.mkdir', message: `try ${++tries}` }))
    const wrap = (server: FileServer): FileServer =>
      new Proxy(server, { get: (target, name): unknown => (name === 'mkdir' ? mkdir : Reflect.get(target, name, target)) })
    await start({ wrap })
    const first = await send('POST', '/d?mkdir', 'k')
    expect(kind(first)).toEqual([501, 'unsupported'])
    expect(await send('POST', '/d?mkdir', 'k')).toEqual(first)
    expect(tries).toBe(1)
  })

  it('of a call is not taken for that of the write, the read and the close it is made of', async () => {
    const table = serveTable({ echo: call((_call, question) => Buffer.from(question).reverse()) })
    const opened: number[] = []
    const open: FileServer['open'] = async (...args) => {
      const result = await table.open(...args)
      opened.push(result.handle)
      return result
    }
    const wrap = (): FileServer => new Proxy<FileServer>(table, { get: (target, name) => (name === 'open' ? open : bound(target, name)) })
    await start({ wrap, limits: { idempotency_keys_max: 1 } })
    expect(await send('POST', '/echo?call', 'k', 'abc')).toMatchObject({ status: 200, body: 'cba' })
    // The edge has forgotten the key: it is asked again, and answered like the first time.
    await send('POST', '/echo?call', 'another', 'abc')
    expect(await send('POST', '/echo?call', 'k', 'abc')).toMatchObject({ status: 200, body: 'cba' })
    expect(opened).toHaveLength(3)
    for (const handle of opened) await expect(table.statHandle({ ...http.context(), session: 1 }, handle)).rejects.toThrow('no open handle')
  })

  it('is 1 to 255 bytes', async () => {
    await start()
    expect((await send('PUT', '/f', 'k'.repeat(255), 'x')).status).toBe(201)
    expect(kind(await send('PUT', '/f', 'k'.repeat(256), 'x'))).toEqual([400, 'invalid'])
    expect(kind(await send('PUT', '/f', '', 'x'))).toEqual([400, 'invalid'])
  })
})

function bound(target: FileServer, name: string | symbol): unknown {
  const method: unknown = Reflect.get(target, name)
  return typeof method === 'function' ? (method.bind(target) as unknown) : method
}

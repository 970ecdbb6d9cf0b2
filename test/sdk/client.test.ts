/** What a program can do with a Client, against a real node. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { call, computed } from '../../namespace/serve/entries.ts'
import { defineService } from '../../sdk/service.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { parsePath } from '../../namespace/path.ts'
import { noPosition } from '../../namespace/position.ts'
import { Client } from '../../sdk/client-api.ts'
import { eventually, failure, TestNode } from '../node/running.ts'

let node: TestNode
let client: Client

beforeAll(async () => {
  node = await TestNode.start()
  client = (await node.connect()).client
}, 60_000)

afterAll(() => node.close())

describe('files', () => {
  it('writes and reads text and bytes, makes parents when asked, appends', async () => {
    await failure(client.write('/data/a/b', 'one'), 'not_found')
    expect(await client.write('/data/a/b', 'one', { parents: true })).toMatchObject({ created: true, size: 3 })
    expect(await client.stat('/data/a/b')).toMatchObject({ kind: 'file', size: 3, version: 1, modifiedBy: 'owner' })
    await client.append('/data/a/b', Buffer.from(' two'))
    expect(await client.readText('/data/a/b')).toBe('one two')
    expect(await client.exists('/data/a/b')).toBe(true)
    expect(await client.exists('/data/a/c')).toBe(false)
    expect(await client.exists('/data/a/b/c')).toBe(false)
    await client.rename('/data/a/b', '/data/a/c')
    await client.symlink('/data/a/link', 'c')
    expect(await client.readlink('/data/a/link')).toBe('c')
    await client.remove('/data/a', { recursive: true })
    expect(await client.exists('/data/a')).toBe(false)
  })

  it('compares and sets', async () => {
    const { qid } = await client.write('/data/cas', '1')
    const ifMatch = { path: qid.path, version: qid.version }
    await client.write('/data/cas', '2', { ifMatch })
    await failure(client.write('/data/cas', '3', { ifMatch }), 'conflict')
    await failure(client.write('/data/cas', '3', { ifMatch: 'none' }), 'conflict')
    expect(await client.readText('/data/cas')).toBe('2')
  })

  it('refuses a relative path', async () => {
    await failure(client.stat('data'), 'invalid')
    await failure(client.read(''), 'invalid')
    // Every method rejects rather than throws.
    await failure(client.create('data'), 'invalid')
    await failure(client.mkdir('data'), 'invalid')
    await failure(client.symlink('data', 'x'), 'invalid')
    await failure(client.remove('data'), 'invalid')
    await failure(client.rename('/data', 'data'), 'invalid')
    await failure(client.setStat('data', {}), 'invalid')
    await failure(client.rights('data'), 'invalid')
    await failure(client.setRights('data', []), 'invalid')
    await failure(client.append('data', ''), 'invalid')
  })

  it('keeps a value of many writes whole: a read shows one version, whatever is written meanwhile', async () => {
    const old = randomBytes(2 * limits.write_bytes_max + 7)
    expect(await client.write('/data/large', old)).toMatchObject({ size: old.length, qid: { version: 1 } })
    const during = changingDuringRead(client, async () => void (await client.write('/data/large', 'new')))
    expect(old.equals(await during.read('/data/large'))).toBe(true)
    expect(await client.readText('/data/large')).toBe('new')
  })

  it('begins to read again where no past is kept, and gives up on a value that never stands still', async () => {
    let value = Buffer.alloc(limits.read_bytes_max + 3, 'a')
    let version = 1
    const stat = () => ({ ...template, size: value.length, version, qid: { ...template.qid, version } })
    const template = await client.stat('/data/large')
    const server = {
      read: async (_context: unknown, _path: unknown, { offset = 0 }: { offset?: number } = {}) => ({
        bytes: value.subarray(offset, offset + limits.read_bytes_max),
        stat: stat(),
        position: noPosition,
      }),
    } as unknown as FileServer
    const change = async (): Promise<void> => {
      value = Buffer.alloc(limits.read_bytes_max + 5, 'b')
      version++
    }
    const once = changingDuringRead(new Client(server, client.principal), change)
    expect(Buffer.from(await once.read('/x')).equals(Buffer.alloc(limits.read_bytes_max + 5, 'b'))).toBe(true)
    const always = changingDuringRead(new Client(server, client.principal), change, Infinity)
    await failure(always.read('/x'), 'conflict')
  })

  it('refuses more than one write at a place in a value', async () => {
    await client.write('/data/place', 'x')
    const bytes = Buffer.alloc(limits.write_bytes_max + 1)
    await failure(client.append('/data/place', bytes), 'too_large')
    await failure(client.write('/data/place', bytes, { at: 3 }), 'too_large')
  })

  it('streams in and out, tells progress, changes nothing when the source fails', async () => {
    const bytes = randomBytes(limits.write_bytes_max + 4_321)
    const progress: number[] = []
    const parts = [bytes.subarray(0, 10), new Uint8Array(0), bytes.subarray(10)]
    await client.writeStream('/data/stream', parts, { onProgress: (n) => progress.push(n) })
    expect(progress.at(-1)).toBe(bytes.length)
    const out: Uint8Array[] = []
    for await (const part of client.readStream('/data/stream')) out.push(part)
    expect(Buffer.concat(out).equals(bytes)).toBe(true)
    const tail: Uint8Array[] = []
    for await (const part of client.readStream('/data/stream', { offset: bytes.length - 5 })) tail.push(part)
    expect(Buffer.concat(tail).equals(bytes.subarray(-5))).toBe(true)

    const broken = (async function* () {
      yield Buffer.from('half')
      throw new Error('the source broke')
    })()
    await expect(client.writeStream('/data/stream', broken)).rejects.toThrow('the source broke')
    expect(await client.stat('/data/stream')).toMatchObject({ size: bytes.length, version: 1 })
  })

  it('reads what a stream was when it was opened, whatever is written meanwhile', async () => {
    const old = randomBytes(limits.read_bytes_max + 10)
    await client.write('/data/kept', old)
    const out: Uint8Array[] = []
    for await (const part of client.readStream('/data/kept')) {
      out.push(part)
      await client.write('/data/kept', 'new')
    }
    expect(Buffer.concat(out).equals(old)).toBe(true)
  })
})

describe('list', () => {
  it('goes on over pages, at one revision, and says where to watch from', async () => {
    const count = limits.list_page_entries_max + 300
    await client.mkdir('/data/many')
    for (let start = 0; start < count; start += 1_000) {
      const then = Array.from({ length: Math.min(1_000, count - start) }, (_, i) => ({
        op: 'write' as const,
        path: parsePath(`/data/many/${String(start + i).padStart(6, '0')}`),
        bytes: new Uint8Array(0),
      }))
      await client.txn({ then })
    }
    const names: string[] = []
    const pages = client.list('/data/many')
    let step = await pages.next()
    for (; step.done !== true; step = await pages.next()) {
      names.push(step.value.name)
      if (names.length === 1) await client.write('/data/many/999999', 'made meanwhile')
    }
    expect(names).toHaveLength(count)
    expect(new Set(names).size).toBe(count)
    expect(names).toEqual([...names].sort())
    for await (const event of client.watch('/data/many', { from: step.value })) {
      if (event.path < '/data/many/999999') continue
      expect(event.path).toBe('/data/many/999999')
      break
    }
    expect((await client.listAll('/data/many', { limit: 3 })).entries.map((e) => e.name)).toEqual(['000000', '000001', '000002'])
    expect((await client.listAll('/data/many', { limit: limits.list_page_entries_max + 2 })).entries).toHaveLength(
      limits.list_page_entries_max + 2,
    )
    await failure(client.listAll('/data/nothing'), 'not_found')
  }, 60_000)
})

describe('watch', () => {
  it('sees every change from a revision on, in order, and ends when the caller stops', async () => {
    const { revision } = await client.write('/data/w/0', '0', { parents: true })
    for (let i = 1; i < 20; i++) await client.write(`/data/w/${i}`, String(i))
    const seen: string[] = []
    for await (const event of client.watch('/data/w', { recursive: true, from: revision })) {
      if (event.stat.kind === 'file') seen.push(event.path)
      if (seen.length === 20) break
    }
    expect(seen).toEqual(Array.from({ length: 20 }, (_, i) => `/data/w/${i}`))
  })

  it('ends when its signal aborts', async () => {
    const stop = new AbortController()
    const watching = (async () => {
      for await (const event of client.watch('/data', { recursive: true, signal: stop.signal })) {
        if (event.path === '/data/stop') stop.abort()
      }
    })()
    await eventually(async () => {
      await client.write('/data/stop', '')
      return stop.signal.aborted ? true : undefined
    })
    await watching
  })
})

describe('copy', () => {
  it('copies files, links and trees with their modes and times, also between stores', async () => {
    await client.write('/data/from/sub/file', 'text', {
      parents: true,
      mode: 0o640,
      modifiedAt: 1_700_000_000_000_000,
      contentType: 'text/x',
    })
    await client.symlink('/data/from/link', 'sub/file')
    await failure(client.copy('/data/from', '/usr/owner/to'), 'is_directory')
    await client.copy('/data/from', '/usr/owner/to', { recursive: true })
    expect(await client.readText('/usr/owner/to/sub/file')).toBe('text')
    expect(await client.stat('/usr/owner/to/sub/file')).toMatchObject({
      mode: 0o640,
      modifiedAt: 1_700_000_000_000_000,
      contentType: 'text/x',
    })
    expect(await client.readlink('/usr/owner/to/link')).toBe('sub/file')
  })

  it('refuses to copy a tree into itself', async () => {
    await client.write('/data/self/file', 'text', { parents: true })
    await failure(client.copy('/data/self', '/data/self/inner', { recursive: true }), 'invalid')
    expect(await client.exists('/data/self/inner')).toBe(false)
  })
})

describe('call', () => {
  it('asks a call file and gets its whole answer', async () => {
    const echo = defineService('echo', {
      upper: call((_context, request) => Buffer.from(Buffer.from(request).toString().toUpperCase())),
      large: call((_context, request) => Buffer.alloc(limits.read_bytes_max + Number(Buffer.from(request).toString()), 'a')),
      failing: call(() => {
        throw new Error('broken inside')
      }),
      plain: computed(() => 'text'),
    })
    await node.serve(echo)
    expect(Buffer.from(await client.call('/svc/echo/upper', 'hello')).toString()).toBe('HELLO')
    expect(await client.call('/svc/echo/large', '5')).toHaveLength(limits.read_bytes_max + 5)
    await failure(client.call('/svc/echo/failing', ''), 'internal')
    await failure(client.call('/svc/echo/nothing', ''), 'not_found')
  })
})

describe('handles', () => {
  it('drops what was not closed, publishes what was, and once closed is not open', async () => {
    await client.write('/data/h', 'before')
    {
      await using handle = await client.open('/data/h', { read: true, write: true })
      await handle.writeAt(0, Buffer.from('dropped'))
      expect(handle.opened.size).toBe(6)
    }
    expect(await client.readText('/data/h')).toBe('before')
    const handle = await client.open('/data/h', { read: true, write: true })
    await handle.truncate(0)
    await handle.writeAt(0, Buffer.from('after'))
    await handle.sync()
    expect(await client.readText('/data/h')).toBe('after')
    expect((await handle.stat()).size).toBe(5)
    await handle.close()
    await handle.discard()
    await failure(handle.readAt(0, 1), 'not_found')
  })

  it('can be dropped after a close that failed', async () => {
    const { qid } = await client.write('/data/h2', 'before')
    const handle = await client.open('/data/h2', { write: true, ifMatch: { path: qid.path, version: qid.version } })
    await handle.writeAt(0, Buffer.from('mine'))
    await client.write('/data/h2', 'theirs')
    await failure(handle.close(), 'conflict')
    await handle.discard()
    await failure(handle.readAt(0, 1), 'not_found')
    expect(await client.readText('/data/h2')).toBe('theirs')
  })
})

describe('time', () => {
  it('fails with deadline when the time is over or the signal aborts, and sends nothing when it is already', async () => {
    const service = await node.serve(
      defineService('slow', { value: computed(({ signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve('late')))) }), // prettier-ignore
    )
    await failure(client.read('/svc/slow/value', { timeoutMs: 50 }), 'deadline')
    const stop = new AbortController()
    const asked = client.read('/svc/slow/value', { signal: stop.signal })
    setImmediate(() => stop.abort())
    await failure(asked, 'deadline')
    await failure(client.write('/data/aborted', 'x', { signal: stop.signal }), 'deadline')
    await failure(client.write('/data/aborted', 'x', { timeoutMs: 0 }), 'deadline')
    expect(await client.exists('/data/aborted')).toBe(false)
    await service.close()
  })

  it('keeps why something was done', async () => {
    const { revision } = await client.write('/data/cause', 'x', { cause: 'ticket 7' })
    for await (const event of client.watch('/data/cause', { from: revision })) {
      expect(event).toMatchObject({ cause: 'ticket 7', actor: 'owner' })
      break
    }
  })
})

/** A client of the same server that has `change` happen between the first and the second part of a read, `times` times. */
function changingDuringRead({ server, principal }: Client, change: () => Promise<void>, times = 1): Client {
  let left = times
  const read: FileServer['read'] = async (context, path, options) => {
    if ((options?.offset ?? 0) > 0 && left-- > 0) await change()
    return server.read(context, path, options)
  }
  return new Client(
    new Proxy(server, { get: (target, name) => (name === 'read' ? read : (Reflect.get(target, name) as unknown)) }),
    principal,
  )
}

/** GET and HEAD, authentication, problems: each clause of the HTTP part of the specification. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { FileServer } from '../../namespace/file-server.ts'
import { parsePath } from '../../namespace/path.ts'
import { startEdge } from './start.ts'
import type { Started } from './start.ts'

let http: Started
const text = '0123456789'
beforeAll(async () => {
  http = await startEdge()
  await http.fetch('/f', { method: 'PUT', body: text })
})
afterAll(() => http.close())

const problemOf = async (response: Response): Promise<Record<string, unknown>> => {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  return (await response.json()) as Record<string, unknown>
}

describe('authentication', () => {
  it('is asked of everything but health', async () => {
    for (const target of ['/v1/fs/f', '/v1/fs', '/v1/txn', '/metrics', '/', '/nope', '/healthz/x', '/v1/fsx']) {
      for (const authorization of [
        undefined,
        'Bearer wrong',
        `Basic ${http.owner}`,
        `Bearer ${http.owner} x`,
        'Bearer',
        `bearer${http.owner}`,
      ]) {
        const response = await fetch(`${http.origin}${target}`, { headers: authorization === undefined ? {} : { authorization } })
        expect([target, authorization, response.status]).toEqual([target, authorization, 401])
        expect(response.headers.get('www-authenticate')).toMatch(/^Bearer /)
        expect(await problemOf(response)).toMatchObject({ kind: 'unauthenticated', status: 401, outcome: 'none' })
      }
    }
    for (const target of ['/healthz', '/readyz']) expect((await fetch(http.origin + target)).status).toBe(200)
    const metrics = await fetch(`${http.origin}/metrics`, { headers: { authorization: `bearer ${http.guest}` } })
    expect([metrics.status, await metrics.text()]).toEqual([200, 'nine_up 1\n'])
  })

  it('decides whose change it is, and rights decide what', async () => {
    const denied = await http.fetch('/f', { method: 'PUT', body: 'x', headers: { authorization: `Bearer ${http.guest}` } })
    expect([denied.status, (await problemOf(denied))['kind']]).toEqual([403, 'denied'])
    const stat = (await (await http.fetch('/f?stat')).json()) as Record<string, unknown>
    expect(stat).toMatchObject({ modifiedBy: 'owner' })
  })

  it('readyz says when it is not', async () => {
    let isReady = false
    const other = await startEdge({ isReady: () => isReady })
    expect((await fetch(`${other.origin}/readyz`)).status).toBe(503)
    isReady = true
    expect((await fetch(`${other.origin}/readyz`)).status).toBe(200)
    await other.close()
  })
})

describe('bytes', () => {
  it('come with their version, on GET and HEAD', async () => {
    const get = await http.fetch('/f')
    expect(await get.text()).toBe(text)
    const head = await http.fetch('/f', { method: 'HEAD' })
    expect(await head.text()).toBe('')
    for (const { status, headers } of [get, head]) {
      expect(status).toBe(200)
      expect(headers.get('content-length')).toBe('10')
      expect(headers.get('etag')).toMatch(/^"[^"]+"$/)
      expect(headers.get('nine-version')).toBe('1')
      expect(Number(headers.get('nine-revision'))).toBeGreaterThanOrEqual(1)
      expect(headers.get('nine-position')).toMatch(/^[A-Za-z0-9_-]+$/)
      expect(Math.abs(Date.parse(headers.get('last-modified')!) - Date.now())).toBeLessThan(60_000)
    }
    expect(head.headers.get('etag')).toBe(get.headers.get('etag'))
  })

  it('of a range', async () => {
    const ranges: [string, number, string, string | null][] = [
      ['bytes=2-4', 206, '234', 'bytes 2-4/10'],
      ['bytes=7-', 206, '789', 'bytes 7-9/10'],
      ['bytes=-2', 206, '89', 'bytes 8-9/10'],
      ['bytes=0-100', 206, text, 'bytes 0-9/10'],
      ['bytes=0-1,4-5', 200, text, null],
      ['bytes=x', 200, text, null],
    ]
    for (const [range, status, body, contentRange] of ranges) {
      const response = await http.fetch('/f', { headers: { range } })
      expect([range, response.status, await response.text(), response.headers.get('content-range')]).toEqual([
        range,
        status,
        body,
        contentRange,
      ])
      expect(response.headers.get('content-length')).toBe(String(body.length))
    }
    for (const range of ['bytes=10-', 'bytes=-0']) {
      const response = await http.fetch('/f', { headers: { range } })
      expect([response.status, response.headers.get('content-range')]).toEqual([416, 'bytes */10'])
      expect(await problemOf(response)).toMatchObject({ kind: 'invalid', status: 416, path: '/f' })
    }
    const head = await http.fetch('/f', { method: 'HEAD', headers: { range: 'bytes=2-4' } })
    expect([head.status, head.headers.get('content-length')]).toEqual([206, '3'])
  })

  it('of a range if nothing changed', async () => {
    const etag = (await http.fetch('/f', { method: 'HEAD' })).headers.get('etag')!
    const status = async (ifRange: string): Promise<number> => {
      const response = await http.fetch('/f', { headers: { range: 'bytes=0-0', 'if-range': ifRange } })
      await response.arrayBuffer()
      return response.status
    }
    expect([await status(etag), await status('"other"'), await status('Sat, 01 Jan 2000 00:00:00 GMT')]).toEqual([206, 200, 200])
  })

  it('not again when they are known', async () => {
    const etag = (await http.fetch('/f', { method: 'HEAD' })).headers.get('etag')!
    for (const header of [etag, '*', `"a", W/${etag}`]) {
      const response = await http.fetch('/f', { headers: { 'if-none-match': header, range: 'bytes=0-0' } })
      expect([header, response.status, await response.text(), response.headers.get('etag')]).toEqual([header, 304, '', etag])
    }
    const other = await http.fetch('/f', { headers: { 'if-none-match': '"a"' } })
    expect([other.status, await other.text()]).toEqual([200, text])
  })

  it('of an empty file', async () => {
    await http.fetch('/empty', { method: 'PUT', body: '' })
    const response = await http.fetch('/empty')
    expect([response.status, response.headers.get('content-length'), await response.text()]).toEqual([200, '0', ''])
  })

  it('of the version that was begun, though the file is replaced or removed meanwhile', async () => {
    for (const change of ['replace', 'remove', 'directory']) {
      let reads = 0
      const wrap = (server: FileServer): FileServer =>
        new Proxy(server, {
          get: (target, name): unknown => {
            if (name !== 'read') return Reflect.get(target, name, target)
            return async (...args: Parameters<FileServer['read']>) => {
              const result = await target.read(...args)
              if (++reads === 1) {
                const [context, path] = args
                if (change === 'replace') await target.write(context, path, new Uint8Array(5))
                else await target.remove(context, path)
                if (change === 'directory') await target.mkdir(context, path)
              }
              return result
            }
          },
        })
      const other = await startEdge({ wrap })
      const value = Buffer.alloc(1_000_000, 'abcdefg')
      await other.fetch('/f', { method: 'PUT', body: value })
      for (const [range, expected] of [
        ['bytes=0-', value],
        [undefined, undefined],
      ] as const) {
        const response = await other.fetch('/f', range === undefined ? {} : { headers: { range } })
        if (expected !== undefined) expect(Buffer.from(await response.arrayBuffer()).equals(expected)).toBe(true)
        else expect(response.headers.get('content-length')).not.toBe('1000000')
      }
      await other.close()
    }
  })

  it('of any type, and a stored type that no header can carry', async () => {
    await http.memory.write(http.context(), parsePath('/odd'), Buffer.from('x'), { contentType: 'a\r\nset-cookie: b\u0100' })
    const response = await http.fetch('/odd')
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/octet-stream'])
  })

  it('of the past, by position, revision and time', async () => {
    const put = await http.fetch('/past', { method: 'PUT', body: 'first' })
    const position = put.headers.get('nine-position')!
    const revision = put.headers.get('nine-revision')!
    const { modifiedAt } = (await (await http.fetch('/past?stat')).json()) as { modifiedAt: string }
    await http.fetch('/past', { method: 'PUT', body: 'second' })
    await http.fetch('/past', { method: 'DELETE' })
    for (const at of [position, revision, modifiedAt]) {
      const response = await http.fetch(`/past?at=${encodeURIComponent(at)}`)
      expect([at, await response.text()]).toEqual([at, 'first'])
      expect(response.headers.get('nine-revision')).toBe(revision)
    }
    expect((await http.fetch('/past')).status).toBe(404)
    const names = (await (await http.fetch(`/?at=${revision}`)).json()) as { entries: { name: string }[] }
    expect(names.entries.map((entry) => entry.name)).toContain('past')
  })

  it('with a consistency and a least position', async () => {
    const put = await http.fetch('/f', { method: 'PUT', body: text })
    const position = put.headers.get('nine-position')!
    for (const query of [
      'consistency=stale',
      'consistency=linearizable',
      `min_position=${position}`,
      `min_position=${put.headers.get('nine-revision')}`,
    ]) {
      expect([query, (await http.fetch(`/f?${query}`)).status]).toEqual([query, 200])
    }
    for (const query of [
      'consistency=best',
      'min_position=nope',
      'at=nope',
      'at=2026-13-01T00:00:00Z',
      'min_position=2026-01-01T00:00:00Z',
    ]) {
      const response = await http.fetch(`/f?${query}`)
      expect([query, (await problemOf(response))['kind']]).toEqual([query, 'invalid'])
    }
    const ahead = Buffer.from(position, 'base64url')
      .toString()
      .replace(/,\d+,0\]\]$/, ',999999,0]]')
    const late = await http.fetch(`/f?min_position=${Buffer.from(ahead).toString('base64url')}`, { headers: { 'nine-timeout': '50' } })
    expect([late.status, (await problemOf(late))['kind']]).toEqual([504, 'deadline'])
  })
})

describe('directories', () => {
  interface Page {
    readonly entries: { readonly name: string; readonly qid: unknown; readonly modifiedAt: string; readonly version: unknown }[]
    readonly next: string | null
    readonly position: string
  }
  const page = async (target: string): Promise<Page> => {
    const response = await http.fetch(target)
    expect(response.status).toBe(200)
    const json = (await response.json()) as Page
    expect(response.headers.get('nine-position')).toBe(json.position)
    return json
  }
  const names = ['a', 'b', 'c+d', 'e f', 'ü', '漢', '%41']

  beforeAll(async () => {
    for (const name of names) await http.fetch(`/dir/${encodeURIComponent(name)}`, { method: 'PUT', body: name })
    await http.fetch('/dir/sub/deep', { method: 'PUT', body: 'x' })
  })

  it('are JSON, with numbers, times and qids as told', async () => {
    for (const target of ['/dir', '/dir/', '/dir?list']) {
      const { entries, next } = await page(target)
      expect(entries.map(({ name }) => name)).toEqual([...names, 'sub'].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y))))
      expect(next).toBeNull()
      for (const entry of entries) {
        expect(Object.entries(entry.qid as object).map(([name, value]) => `${name} ${typeof value}`)).toEqual([
          'type number',
          'path number',
          'version number',
        ])
        expect(entry.modifiedAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z$/)
        expect(entry.version).toBe(1)
      }
    }
    const head = await http.fetch('/dir', { method: 'HEAD' })
    expect([head.status, await head.text()]).toEqual([200, ''])
    const list = await http.fetch('/dir/a?list')
    expect([list.status, (await problemOf(list))['kind']]).toEqual([409, 'not_directory'])
  })

  it.each(['after', 'cursor'])('give pages whose next goes into %s, at one revision', async (parameter) => {
    for (const recursive of ['', '&recursive']) {
      const whole = await page(`/dir?limit=1000${recursive}`)
      const seen: string[] = []
      let position: string | undefined
      let next: string | null = ''
      while (next !== null) {
        const at: string = next === '' ? '' : `&${parameter}=${next}`
        const one: Page = await page(`/dir?limit=2${recursive}${at}`)
        expect(one.entries.length).toBeLessThanOrEqual(2)
        seen.push(...one.entries.map(({ name }) => name))
        expect(one.position).toBe((position ??= one.position))
        // What comes in between is not shown.
        await http.fetch(`/dir/zz${seen.length}`, { method: 'PUT', body: 'x' })
        next = one.next
      }
      expect(seen).toEqual(whole.entries.map(({ name }) => name))
      for (let i = 0; i <= seen.length; i++) await http.fetch(`/dir/zz${i}`, { method: 'DELETE' })
    }
  })

  it('start after a name, and descend', async () => {
    expect((await page('/dir?after=b&limit=1')).entries[0]!.name).toBe('c+d')
    expect((await page(`/dir?after=${encodeURIComponent('c+d')}&limit=1`)).entries[0]!.name).toBe('e f')
    const all = (await page('/dir?recursive&after=sub')).entries.map(({ name }) => name)
    expect(all[0]).toBe('sub/deep')
    expect((await page('/dir?recursive&prefix=sub/')).entries.map(({ name }) => name)).toEqual(['sub/deep'])
  })

  it('refuse bad questions', async () => {
    for (const query of ['limit=-1', 'limit=x', 'cursor=x', 'after=/!', 'list&list', 'what']) {
      const response = await http.fetch(`/dir?${query}`)
      expect([query, response.status, (await problemOf(response))['kind']]).toEqual([query, 400, 'invalid'])
    }
  })
})

describe('problems', () => {
  it('say kind, op, path and outcome', async () => {
    const response = await http.fetch('/no/such')
    expect(response.status).toBe(404)
    const problem = await problemOf(response)
    expect(problem).toMatchObject({ kind: 'not_found', path: '/no/such', outcome: 'none', status: 404, retryable: false })
    expect(problem['op']).toMatch(/^[a-z]+\.[a-zA-Z]+$/)
    expect([typeof problem['type'], typeof problem['title'], typeof problem['detail']]).toEqual(['string', 'string', 'string'])
    const head = await http.fetch('/no/such', { method: 'HEAD' })
    expect([head.status, await head.text()]).toEqual([404, ''])
  })

  it('name their request for what is asked wrongly', async () => {
    expect(await problemOf(await http.fetch('/f?append'))).toMatchObject({ kind: 'invalid', status: 400 })
    expect(await problemOf(await http.fetch('/f', { method: 'PROPFIND' }))).toMatchObject({ kind: 'unsupported', status: 501, path: '/f' })
    const other = await fetch(`${http.origin}/v2`, { headers: { authorization: `Bearer ${http.owner}` } })
    expect(await problemOf(other)).toMatchObject({ kind: 'not_found', status: 404 })
    const late = await http.fetch('/f', { headers: { 'nine-timeout': '0' } })
    expect(await problemOf(late)).toMatchObject({ kind: 'deadline', status: 504 })
    expect(await problemOf(await http.fetch('/f', { headers: { 'nine-timeout': '-1' } }))).toMatchObject({ kind: 'invalid' })
  })

  it('let no origin in by default, and a named one', async () => {
    const ask = async (other: Started, init: RequestInit = {}): Promise<(string | null)[]> => {
      const headers = { authorization: `Bearer ${other.owner}`, origin: 'https://app.example', ...(init.headers as Record<string, string>) }
      const response = await fetch(`${other.origin}/v1/fs/`, { ...init, headers })
      return [String(response.status), response.headers.get('access-control-allow-origin')]
    }
    expect(await ask(http)).toEqual(['200', null])
    const open = await startEdge({ corsOrigins: ['https://app.example'] })
    expect(await ask(open)).toEqual(['200', 'https://app.example'])
    expect(await ask(open, { headers: { origin: 'https://evil.example' } })).toEqual(['200', null])
    expect(await ask(open, { method: 'OPTIONS', headers: { authorization: '' } })).toEqual(['204', 'https://app.example'])
    await open.close()
  })

  it('observes each request once', async () => {
    const before = http.observed.length
    await http.fetch('/no/such')
    await http.fetch('/f', { method: 'HEAD' })
    await expect.poll(() => http.observed.slice(before).map(({ method, status }) => `${method} ${status}`)).toEqual(['GET 404', 'HEAD 200'])
  })
})

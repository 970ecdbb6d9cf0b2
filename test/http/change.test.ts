/** PUT, POST, PATCH, DELETE and transactions: each clause of the HTTP part of the specification. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { rawRequest } from './raw.ts'
import { startEdge } from './start.ts'
import type { Started } from './start.ts'

let http: Started
beforeAll(async () => {
  http = await startEdge()
})
afterAll(() => http.close())

async function kindOf(response: Response): Promise<[number, unknown]> {
  return [response.status, ((await response.json()) as Record<string, unknown>)['kind']]
}
const put = (path: string, body: NonNullable<RequestInit['body']>, headers: Record<string, string> = {}): Promise<Response> =>
  http.fetch(path, { method: 'PUT', body, headers })
const text = async (path: string): Promise<string> => (await http.fetch(path)).text()

describe('PUT', () => {
  it('makes and replaces, parents too, with versions in the answer', async () => {
    const made = await put('/new/deep/f', 'one')
    expect(made.status).toBe(201)
    const again = await put('/new/deep/f', 'two!')
    expect(again.status).toBe(200)
    const head = await http.fetch('/new/deep/f', { method: 'HEAD' })
    for (const name of ['etag', 'nine-version', 'nine-revision', 'nine-position'])
      expect(again.headers.get(name)).toBe(head.headers.get(name))
    expect([made, again].map((one) => one.headers.get('nine-version'))).toEqual(['1', '2'])
    expect(made.headers.get('etag')).not.toBe(again.headers.get('etag'))
    expect(await again.json()).toMatchObject({ created: false, size: 4, version: 2, qid: { type: 0 } })
  })

  it('takes bytes as sent, under any or no content type', async () => {
    const bytes = Buffer.from([0, 255, 13, 10, 0xc3, 0x28])
    for (const type of [
      '',
      'application/json',
      'text/plain; charset=utf-16',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'no/such',
      'x',
    ]) {
      const headers: Record<string, string> = type === '' ? {} : { 'content-type': type }
      expect((await put('/bytes', bytes, headers)).ok).toBe(true)
      expect(Buffer.from(await (await http.fetch('/bytes')).arrayBuffer())).toEqual(bytes)
    }
    const raw = await rawRequest(http.port, 'PUT', '/v1/fs/bytes', { authorization: `Bearer ${http.owner}` }, 'a+b=%20')
    expect(raw.status).toBe(200)
    expect(await text('/bytes')).toBe('a+b=%20')
    await put('/typed', 'x', { 'content-type': 'text/css' })
    expect((await http.fetch('/typed')).headers.get('content-type')).toBe('text/css')
  })

  it('takes chunks, of small and large bodies alike', async () => {
    for (const size of [0, 10, 131_072, 131_073, 6_000_000]) {
      const bytes = Buffer.alloc(size, 'abcdefg')
      const stream = new ReadableStream({
        start: (controller) => {
          for (let at = 0; at < size; at += 100_000) controller.enqueue(new Uint8Array(bytes.subarray(at, at + 100_000)))
          controller.close()
        },
      })
      const response = await http.fetch(`/chunked${size}`, { method: 'PUT', body: stream, duplex: 'half' })
      expect([size, response.status]).toEqual([size, 201])
      expect(await response.json()).toMatchObject({ version: 1, size })
      expect(Buffer.from(await (await http.fetch(`/chunked${size}`)).arrayBuffer()).equals(bytes)).toBe(true)
    }
  })

  it('is conditional', async () => {
    const first = (await put('/cas', 'x')).headers.get('etag')!
    expect(await kindOf(await put('/cas', 'y', { 'if-none-match': '*' }))).toEqual([412, 'conflict'])
    const second = (await put('/cas', 'y', { 'if-match': first })).headers.get('etag')!
    expect(await kindOf(await put('/cas', 'z', { 'if-match': first }))).toEqual([412, 'conflict'])
    expect((await put('/cas', 'z', { 'if-match': `${first}, "foreign", ${second}` })).status).toBe(200)
    expect(await kindOf(await put('/cas', 'q', { 'if-match': '"foreign"' }))).toEqual([412, 'conflict'])
    expect(await kindOf(await put('/cas', 'q', { 'if-match': `W/${second}` }))).toEqual([412, 'conflict'])
    expect((await put('/cas', 'star', { 'if-match': '*' })).status).toBe(200)
    expect(await kindOf(await put('/cas-none', 'q', { 'if-match': '*' }))).toEqual([412, 'conflict'])
    expect(await kindOf(await put('/cas-none/deep', 'q', { 'if-match': first }))).toEqual([412, 'conflict'])
    expect((await put('/cas-new', 'q', { 'if-none-match': '*' })).status).toBe(201)
    expect(await kindOf(await put('/cas', 'q', { 'if-none-match': first }))).toEqual([400, 'invalid'])
    expect(await kindOf(await put('/cas', 'q', { 'if-match': 'bare' }))).toEqual([400, 'invalid'])
    expect(await text('/cas')).toBe('star')
    // A file made again is another, whatever its version.
    const etag = (await put('/again', 'x')).headers.get('etag')!
    await http.fetch('/again', { method: 'DELETE' })
    await put('/again', 'x')
    expect((await put('/again', 'y', { 'if-match': etag })).status).toBe(412)
  })

  it('is conditional for large bodies too, and refused before they are sent', async () => {
    const large = Buffer.alloc(5_000_000, 'x')
    const etag = (await put('/large', 'x')).headers.get('etag')!
    expect(await kindOf(await put('/large', large, { 'if-none-match': '*' }))).toEqual([412, 'conflict'])
    expect((await put('/large', large, { 'if-match': etag })).status).toBe(200)
    expect(await kindOf(await put('/large', large, { 'if-match': etag }))).toEqual([412, 'conflict'])
    expect((await put('/large', large, { 'if-match': '*' })).status).toBe(200)
    expect((await put('/large-none', large, { 'if-match': '*' })).status).toBe(412)
    expect((await put('/large', Buffer.alloc(5_000_000, 'y'))).headers.get('nine-version')).toBe('4')
  })

  it('of one version by many wins once', async () => {
    const etag = (await put('/race', '0')).headers.get('etag')!
    const statuses = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => (await put('/race', String(i), { 'if-match': etag })).status),
    )
    expect(statuses.filter((status) => status === 200)).toHaveLength(1)
    expect(statuses.filter((status) => status === 412)).toHaveLength(19)
  })

  it('appends, and writes at an offset without truncation', async () => {
    for (const part of ['a', 'b', 'c']) await put('/log?append', part)
    expect(await text('/log')).toBe('abc')
    await put('/log?offset=1', 'X')
    expect(await text('/log')).toBe('aXc')
    await put('/log?offset=5', 'end')
    expect(await text('/log')).toBe('aXc\0\0end')
    await put('/log?append=', Buffer.alloc(5_000_000, 'z'))
    expect(Number((await http.fetch('/log', { method: 'HEAD' })).headers.get('content-length'))).toBe(5_000_008)
    await put('/log?offset=2', Buffer.alloc(4_500_000, 'y'))
    const whole = await text('/log')
    expect([whole.length, whole.slice(0, 3), whole.slice(-1)]).toEqual([5_000_008, 'aXy', 'z'])
    for (const query of ['offset=-1', 'offset=1e3', 'offset=9999999999999999', 'offset=', 'append&offset=1', 'offset=1&offset=2']) {
      expect([query, ...(await kindOf(await put(`/log?${query}`, 'x')))]).toEqual([query, 400, 'invalid'])
    }
    expect(await kindOf(await put('/log?offset=9007199254740991', 'x'))).toEqual([413, 'too_large'])
  })

  it('ends a file after its time', async () => {
    const watch = http.memory.watch(http.context(), parsePath('/'), {})[Symbol.asyncIterator]()
    const begun = performance.now()
    expect((await put('/short?ttl=300ms', 'x')).status).toBe(201)
    expect((await http.fetch('/short')).status).toBe(200)
    const types: string[] = []
    while (types.at(-1) !== 'remove') {
      const step = await watch.next()
      if (step.done === true) throw new Error('the watch ended')
      types.push(...step.value.events.map(({ type }) => type))
    }
    const took = performance.now() - begun
    expect(took).toBeGreaterThan(250)
    expect(took).toBeLessThan(1300)
    expect((await http.fetch('/short')).status).toBe(404)
    await watch.return?.()
    for (const ttl of ['0s', '1.5s', '-1s', '5d', '', '99999999h'])
      expect(await kindOf(await put(`/t?ttl=${ttl}`, 'x'))).toEqual([400, 'invalid'])
  })

  it('refuses what it cannot mean', async () => {
    await put('/is-file', 'x')
    await http.fetch('/is-dir', { method: 'POST' }).then((response) => response.body?.cancel())
    await http.fetch('/is-dir?mkdir', { method: 'POST' })
    expect(await kindOf(await put('/is-file/below', 'x'))).toEqual([409, 'not_directory'])
    expect(await kindOf(await put('/is-dir', 'x'))).toEqual([409, 'is_directory'])
    expect(await kindOf(await put('/is-file?mkdir', 'x'))).toEqual([400, 'invalid'])
    expect(await kindOf(await put('/is-file?recursive', 'x'))).toEqual([400, 'invalid'])
    expect(await kindOf(await put('/t', 'x', { 'content-type': 'x'.repeat(300) }))).toEqual([400, 'invalid'])
    expect(await text('/is-file')).toBe('x')
  })
})

describe('POST', () => {
  const post = (target: string, init: RequestInit = {}): Promise<Response> => http.fetch(target, { method: 'POST', ...init })

  it('?mkdir makes a directory', async () => {
    const made = await post('/made/dir?mkdir')
    expect(made.status).toBe(201)
    expect(await made.json()).toMatchObject({ qid: { type: 128 }, version: 1 })
    expect(await kindOf(await post('/made/dir?mkdir'))).toEqual([409, 'exists'])
    expect(await kindOf(await post('/made/x?mkdir', { body: 'x' }))).toEqual([413, 'too_large'])
  })

  it('?rename moves to a percent-encoded path', async () => {
    const names = ['a+b', 'a b', 'ü/漢字', '100%', 'a&b=c', '?#', '%41', '..x']
    for (const name of names) {
      await put('/from', name)
      const to = `/moved/${name}`
      const response = await post(`/from?rename=${encodeURIComponent(to)}`)
      expect([name, response.status]).toEqual([name, 200])
      expect(response.headers.get('nine-revision')).not.toBeNull()
      expect(Buffer.from((await http.memory.read(http.context(), parsePath(to))).bytes).toString()).toBe(name)
    }
    await put('/from', 'x')
    expect((await post('/from?rename=/plus+and%2Fslash')).status).toBe(200)
    expect(Buffer.from((await http.memory.read(http.context(), parsePath('/plus+and/slash'))).bytes).toString()).toBe('x')
    await put('/from', 'x')
    await put('/there', 'y')
    expect(await kindOf(await post('/from?rename=/there'))).toEqual([409, 'exists'])
    expect((await post('/from?rename=/there&replace')).status).toBe(200)
    expect(await kindOf(await post('/none?rename=/there'))).toEqual([404, 'not_found'])
    for (const to of ['relative', '', '%zz', '%ff', '/a%00', '/x&rename=/y'])
      expect([to, ...(await kindOf(await post(`/there?rename=${to}`)))]).toEqual([to, 400, 'invalid'])
    expect(await kindOf(await post(`/there?rename=/${'n'.repeat(256)}`))).toEqual([400, 'name_too_long'])
    expect(await text('/there')).toBe('x')
  })

  it('needs to say what', async () => {
    for (const target of ['/x', '/x?mkdir&call', '/x?replace', '/x?list', '/x?mkdir&rename=/y'])
      expect(await kindOf(await post(target))).toEqual([400, 'invalid'])
    expect((await kindOf(await post('/none?call', { body: 'x' })))[0]).toBe(404)
  })
})

describe('PATCH', () => {
  const patch = (target: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
    http.fetch(target, { method: 'PATCH', body: typeof body === 'string' ? body : JSON.stringify(body), headers })

  it('changes mode, owner, group and times', async () => {
    const etag = (await put('/meta', 'x')).headers.get('etag')!
    const response = await patch(
      '/meta',
      { mode: 0o600, owner: 'ann', group: 'staff', modifiedAt: '2020-01-02T03:04:05.123456+01:00' },
      { 'if-match': etag },
    )
    expect([response.status, response.headers.get('nine-version')]).toEqual([200, '2'])
    expect(await (await http.fetch('/meta?stat')).json()).toMatchObject({
      mode: 0o600,
      owner: 'ann',
      group: 'staff',
      modifiedAt: '2020-01-02T02:04:05.123456Z',
    })
    expect((await http.fetch('/meta', { method: 'HEAD' })).headers.get('last-modified')).toBe('Thu, 02 Jan 2020 02:04:05 GMT')
    expect(await kindOf(await patch('/meta', { mode: 0 }, { 'if-match': etag }))).toEqual([412, 'conflict'])
  })

  it('refuses all else', async () => {
    await put('/meta', 'x')
    const bad: unknown[] = [
      { color: 1 },
      { mode: '644' },
      { modifiedAt: '1969-12-31T23:59:59Z' },
      { modifiedAt: '2300-01-01T00:00:00Z' },
      { mode: -1 },
      { mode: 0o10000 },
      { mode: 1.5 },
      { owner: 5 },
      { modifiedAt: 5 },
      { modifiedAt: 'now' },
      [],
      null,
      'text',
      '{',
      '',
      '{"__proto__":{}}',
      { size: -1 },
    ]
    for (const body of bad) expect([body, ...(await kindOf(await patch('/meta', body)))]).toEqual([body, 400, 'invalid'])
    expect(await kindOf(await patch('/meta', { owner: 'x'.repeat(300) }))).toEqual([400, 'invalid'])
    expect(await kindOf(await patch('/meta', `{"owner":"${'x'.repeat(70_000)}"}`))).toEqual([413, 'too_large'])
    expect(await kindOf(await patch('/none', {}))).toEqual([404, 'not_found'])
  })
})

describe('DELETE', () => {
  it('removes a file, an empty directory, or a tree', async () => {
    const etag = (await put('/tree/a/b', 'x')).headers.get('etag')!
    const remove = (target: string, headers: Record<string, string> = {}): Promise<Response> =>
      http.fetch(target, { method: 'DELETE', headers })
    expect(await kindOf(await remove('/tree'))).toEqual([409, 'not_empty'])
    await put('/tree/a/b', 'y')
    expect(await kindOf(await remove('/tree/a/b', { 'if-match': etag }))).toEqual([412, 'conflict'])
    const current = (await http.fetch('/tree/a/b', { method: 'HEAD' })).headers.get('etag')!
    const removed = await remove('/tree/a/b', { 'if-match': current })
    expect([removed.status, await removed.text()]).toEqual([204, ''])
    expect(Number(removed.headers.get('nine-revision'))).toBeGreaterThan(0)
    expect(await kindOf(await remove('/tree/a/b', { 'if-match': '*' }))).toEqual([412, 'conflict'])
    expect(await kindOf(await remove('/tree/a/b'))).toEqual([404, 'not_found'])
    expect((await remove('/tree?recursive')).status).toBe(204)
    expect(await kindOf(await remove('/tree?recursve'))).toEqual([400, 'invalid'])
  })
})

describe('transactions', () => {
  const txn = (body: unknown, query = ''): Promise<Response> =>
    fetch(`${http.origin}/v1/txn${query}`, {
      method: 'POST',
      body: typeof body === 'string' ? body : JSON.stringify(body),
      headers: { authorization: `Bearer ${http.owner}` },
    })

  it('take one branch, with all or nothing of it', async () => {
    const etag = (await put('/txn/a', 'x')).headers.get('etag')!
    const { qid } = (await (await http.fetch('/txn/a?stat')).json()) as { qid: object }
    const answer = await txn({
      if: [
        { path: '/txn/a', is: qid },
        { path: '/txn/a', is: etag },
        { path: '/txn/none', is: 'none' },
        { path: '/txn', is: 'exists' },
      ],
      then: [
        { op: 'write', path: '/txn/a', bytes: Buffer.from('new').toString('base64'), ifMatch: etag },
        { op: 'read', path: '/txn/a' },
        { op: 'mkdir', path: '/txn/d' },
      ],
      else: [{ op: 'remove', path: '/txn/a' }],
    })
    expect(answer.status).toBe(200)
    const json = (await answer.json()) as { results: Record<string, unknown>[] }
    expect(json).toMatchObject({ branch: 'then', position: answer.headers.get('nine-position') })
    expect(json.results[1]).toMatchObject({ op: 'read', bytes: Buffer.from('new').toString('base64'), stat: { version: 2 } })
    expect(await (await txn({ if: [{ path: '/txn/a', is: etag }], else: [{ op: 'stat', path: '/txn/a' }] })).json()).toMatchObject({
      branch: 'else',
    })
    const failed = await txn({
      then: [
        { op: 'write', path: '/txn/a', bytes: '' },
        { op: 'create', path: '/txn/d' },
      ],
    })
    expect(await kindOf(failed)).toEqual([409, 'exists'])
    expect(await text('/txn/a')).toBe('new')
  })

  it('refuse bad questions, whole', async () => {
    const write = (fields: object): unknown => ({ then: [{ op: 'write', path: '/txn/w', ...fields }] })
    const bad: unknown[] = [
      write({ bytes: '?' }), write({ bytes: 'YQ' }), write({ bytes: 'YQ=' }), write({ bytes: 'Y Q=' }), write({ bytes: '-_-_' }), write({ bytes: 5 }), write({ bytes: '====' }), write({ bytes: 'YQ==YQ==' }),
      write({ what: 1 }), write({ path: 'relative' }), write({ path: 5 }), write({ at: -1 }), write({ ifMatch: 'bare' }), write({ mode: 9999 }), write({ modifiedAt: 5 }),
      { then: [{ op: 'explode', path: '/' }] }, { then: {} }, { thn: [] }, { if: [{ path: '/x', is: 'gone' }] }, [], 'x', '{"then":[{"op":"stat","path":"/","__proto__":1}]}', null,
    ] // prettier-ignore
    for (const body of bad) expect([body, ...(await kindOf(await txn(body)))]).toEqual([body, 400, 'invalid'])
    expect(await kindOf(await txn({}, '?list'))).toEqual([400, 'invalid'])
    expect((await fetch(`${http.origin}/v1/txn`, { headers: { authorization: `Bearer ${http.owner}` } })).status).toBe(501)
    expect((await http.fetch('/txn/w')).status).toBe(404)
  })

  it('are bounded in operations and bytes', async () => {
    const many = (count: number): unknown => ({
      then: Array.from({ length: count }, (_, i) => ({ op: 'write', path: `/txn/many/${i}`, parents: true })),
    })
    expect((await txn(many(1024))).status).toBe(200)
    expect(await kindOf(await txn(many(1025)))).toEqual([413, 'too_large'])
    const large = (bytes: number): unknown => ({
      then: [{ op: 'write', path: '/txn/large', bytes: Buffer.alloc(bytes).toString('base64') }],
    })
    expect((await txn(large(4 * 1024 * 1024))).status).toBe(200)
    expect(await kindOf(await txn(large(4 * 1024 * 1024 + 1)))).toEqual([413, 'too_large'])
    expect(await kindOf(await txn(`${' '.repeat(9_000_000)}{}`))).toEqual([413, 'too_large'])
  })
})

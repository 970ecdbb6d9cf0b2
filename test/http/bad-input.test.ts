/** What nobody should send: each is answered by its kind or cut off, and others do not notice. */
import type { Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { dial, parseAnswers, rawAnswers, rawRequest, untilClosed, untilReceived } from './raw.ts'
import { startEdge } from './start.ts'
import type { Started } from './start.ts'

let http: Started
let auth: string
beforeAll(async () => {
  http = await startEdge({ limits: { http_drain_ms: 300 } })
  auth = `host: x\r\nauthorization: Bearer ${http.owner}\r\n`
  await http.fetch('/secret', { method: 'PUT', body: 'inside' })
})
afterAll(() => http.close())
afterEach(async () => {
  // Whatever happened: the edge serves, and nothing of it was a failure of ours.
  expect(await (await http.fetch('/secret')).text()).toBe('inside')
  expect(http.reported).toEqual([])
})

const ask = async (method: string, target: string, body?: string): Promise<[number, unknown]> => {
  const answer = await rawRequest(http.port, method, target, { authorization: `Bearer ${http.owner}` }, body)
  const isProblem = /content-type: application\/problem\+json/i.test(answer.head)
  return [answer.status, isProblem ? (JSON.parse(answer.body) as Record<string, unknown>)['kind'] : answer.body]
}

describe('paths', () => {
  it.each([
    ['/v1/fs/%', 'invalid'],
    ['/v1/fs/%4', 'invalid'],
    ['/v1/fs/%zz', 'invalid'],
    ['/v1/fs/%ff', 'invalid'],
    ['/v1/fs/%c0%af', 'invalid'],
    ['/v1/fs/%ed%a0%80', 'invalid'],
    ['/v1/fs/a%00b', 'invalid'],
    [`/v1/fs/${'n'.repeat(256)}`, 'name_too_long'],
    [`/v1/fs/${'%C3%A4'.repeat(128)}`, 'name_too_long'],
    [`/v1/fs/${'p/'.repeat(512)}x`, 'name_too_long'],
    ['/v1/fs/x?nope', 'invalid'],
    ['/v1/fs/x?list&list', 'invalid'],
    ['/v1/fs/x?%6cist&list', 'invalid'],
    ['/v1/fs/x?limit=-1&list', 'invalid'],
    ['/v1/fs/x?list=%ff', 'invalid'],
  ])('%s is %s', async (target, kind) => {
    expect(await ask('GET', target)).toEqual([400, kind])
    expect((await ask('PUT', target, 'x'))[0]).toBe(400)
  })

  it('of the longest lengths work', async () => {
    const longest = `/v1/fs/${'n'.repeat(255)}/${'m'.repeat(255)}/${'o'.repeat(255)}/${'p'.repeat(255)}`
    expect((await ask('PUT', longest, 'x'))[0]).toBe(201)
    expect(await ask('GET', longest)).toEqual([200, 'x'])
    expect(await ask('GET', `${longest}q`)).toEqual([400, 'name_too_long'])
  })

  it('never leave the root, and are not folded into other routes', async () => {
    for (const target of [
      '/v1/fs/../secret',
      '/v1/fs/a/../../../../secret',
      '/v1/fs/%2e%2e/secret',
      '/v1/fs/%2e%2e%2fsecret',
      '/v1/fs/./secret',
      '/v1/fs//secret',
      '/v1/fs/..%2f..%2fsecret',
    ]) {
      expect([target, ...(await ask('GET', target))]).toEqual([target, 200, 'inside'])
    }
    for (const target of ['/v1/fs/../../metrics', '/v1/fs/../../healthz', '/v1/fs/%2e%2e/%2e%2e/etc/passwd']) {
      expect([target, ...(await ask('GET', target))]).toEqual([target, 404, 'not_found'])
    }
    for (const target of ['/v1/../v1/fs/secret', '//v1/fs/secret', '/V1/fs/secret', '/v1/fssecret', '*', '/%76%31/fs/secret']) {
      expect([target, ...(await ask('GET', target))]).toEqual([target, 404, 'not_found'])
    }
  })

  it('may come with a host that means nothing', async () => {
    expect(await ask('GET', 'http://elsewhere.example/v1/fs/secret')).toEqual([200, 'inside'])
    expect(await ask('GET', 'http://elsewhere.example/v1/fs/../fs/secret')).toEqual([404, 'not_found'])
    expect((await ask('GET', 'http://elsewhere.example'))[0]).toBe(404)
  })
})

describe('requests', () => {
  it('of no method we know', async () => {
    for (const method of ['PROPFIND', 'TRACE', 'OPTIONS', 'MKCOL'])
      expect([method, ...(await ask(method, '/v1/fs/secret'))]).toEqual([method, 501, 'unsupported'])
    const [invented] = await rawAnswers(http.port, `EXPLODE /v1/fs/x HTTP/1.1\r\n${auth}\r\n`)
    expect(invented).toMatchObject({ status: 400 })
    expect(await rawAnswers(http.port, `CONNECT /v1/fs/x HTTP/1.1\r\n${auth}\r\n`)).toEqual([])
  })

  it('that are no HTTP get a short answer', async () => {
    const nonsense = ['hello\r\n\r\n', '\x16\x03\x01\x02\x00\x01\x00', 'GET / HTTP/9.9\r\n\r\n', `GET /v1/fs/\u0001 HTTP/1.1\r\n${auth}\r\n`, `GET /v1/fs/x HTTP/1.1\r\n${auth}bad header\r\n\r\n`, `PUT /v1/fs/x HTTP/1.1\r\n${auth}content-length: 1\r\ncontent-length: 2\r\n\r\nx`, `PUT /v1/fs/x HTTP/1.1\r\n${auth}content-length: -1\r\n\r\n`, `PUT /v1/fs/x HTTP/1.1\r\n${auth}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, 'GET /v1/fs/x HTTP/1.1\r\n\r\n'] // prettier-ignore
    for (const text of nonsense) {
      const answers = await rawAnswers(http.port, text)
      expect([text, answers.map(({ status }) => status)]).toEqual([text, [400]])
    }
    const [answer] = await rawAnswers(http.port, 'hello\r\n\r\n', { half: false })
    expect(JSON.parse(answer!.body)).toMatchObject({ kind: 'invalid', status: 400 })
  })

  it('with headers too large', async () => {
    const [answer] = await rawAnswers(http.port, `GET /v1/fs/x HTTP/1.1\r\n${auth}x: ${'y'.repeat(200_000)}\r\n\r\n`, { half: false })
    expect([answer!.status, JSON.parse(answer!.body)]).toMatchObject([431, { kind: 'too_large', status: 431 }])
    const [target] = await rawAnswers(http.port, `GET /v1/fs/${'y'.repeat(200_000)} HTTP/1.1\r\n${auth}\r\n`, { half: false })
    expect(target!.status).toBe(431)
  })

  it('in a row on one connection are answered in order', async () => {
    const put = (i: number): string => `PUT /v1/fs/row?append HTTP/1.1\r\n${auth}content-length: 1\r\n\r\n${i}`
    const get = `GET /v1/fs/row HTTP/1.1\r\n${auth}\r\n`
    const answers = await rawAnswers(
      http.port,
      `${put(1)}${get}GET /v1/fs/none HTTP/1.1\r\n${auth}\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
      { half: false },
    )
    expect(answers.map(({ status }) => status)).toEqual([201, 200, 404, 200])
  })

  it('whose client has said all it will are answered', async () => {
    const [answer] = await rawAnswers(http.port, `GET /v1/fs/secret HTTP/1.1\r\n${auth}\r\n`, { half: true })
    expect(answer).toMatchObject({ status: 200, body: 'inside' })
    const cut = await rawAnswers(http.port, `PUT /v1/fs/half HTTP/1.1\r\n${auth}content-length: 10\r\n\r\nabc`, { half: true })
    expect(cut.every(({ status }) => status === 400)).toBe(true)
    expect((await http.fetch('/half')).status).toBe(404)
  })

  it('with unexpected expectations', async () => {
    const socket = await dial(http.port)
    const received = untilReceived(socket, /100 Continue\r\n\r\n/)
    socket.write(`PUT /v1/fs/expected HTTP/1.1\r\n${auth}content-length: 5\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n`)
    expect(parseAnswers(await received)).toEqual([])
    const answer = untilClosed(socket)
    socket.write('hello')
    expect(parseAnswers(await answer)[0]).toMatchObject({ status: 201 })
    for (const [headers, status] of [
      [`${auth}content-length: 99999999999999`, 413],
      ['host: x\r\ncontent-length: 5', 401],
      [`${auth}content-length: 5\r\nif-match: bare`, 400],
    ] as const) {
      const answers = await rawAnswers(http.port, `PUT /v1/fs/expected HTTP/1.1\r\n${headers}\r\nexpect: 100-continue\r\n\r\n`, {
        half: false,
      })
      expect(answers.map((one) => one.status)).toEqual([status])
    }
    const [other] = await rawAnswers(http.port, `PUT /v1/fs/x HTTP/1.1\r\n${auth}content-length: 5\r\nexpect: miracles\r\n\r\nhello`)
    expect(other!.status).toBe(417)
  })
})

describe('bodies', () => {
  it('too large are refused before they are read, and the answer arrives', async () => {
    const begun = performance.now()
    for (const length of ['99999999999999', '999999999999999999']) {
      const [answer] = await rawAnswers(
        http.port,
        `PUT /v1/fs/big HTTP/1.1\r\n${auth}content-length: ${length}\r\n\r\n${'x'.repeat(300_000)}`,
        { half: false },
      )
      expect(answer!.status).toBe(413)
      expect(answer!.head).toMatch(/connection: close/i)
    }
    const txn = await rawAnswers(http.port, `POST /v1/txn HTTP/1.1\r\n${auth}content-length: 9000000\r\n\r\n${'x'.repeat(300_000)}`, {
      half: false,
    })
    expect(txn[0]!.status).toBe(413)
    expect(performance.now() - begun).toBeLessThan(5_000)
    // A client that sends all before it reads sees the answer, too.
    const whole = await http.fetch('/x?mkdir', { method: 'POST', body: Buffer.alloc(3_000_000) })
    expect([whole.status, ((await whole.json()) as Record<string, unknown>)['kind']]).toEqual([413, 'too_large'])
    const wrong = await fetch(`${http.origin}/v1/fs/x`, {
      method: 'PUT',
      body: Buffer.alloc(3_000_000),
      headers: { authorization: 'Bearer no' },
    })
    expect(wrong.status).toBe(401)
  })

  it('refused in the middle have their answer read by who reads only after sending', async () => {
    const other = await startEdge()
    const socket = await dial(other.port)
    socket.pause()
    const length = 20_000_000
    socket.write(`POST /v1/txn HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${other.owner}\r\ncontent-length: ${length}\r\n\r\n`)
    for (let sent = 0; sent < length; sent += 1_000_000) {
      await new Promise<void>((resolve, reject) =>
        socket.write(Buffer.alloc(1_000_000, ' '), (error) => (error ? reject(error) : resolve())),
      )
    }
    const received = untilClosed(socket)
    socket.resume()
    expect(parseAnswers(await received).map(({ status }) => status)).toEqual([413])
    await other.close()
  })

  it('in chunks have the same bound', async () => {
    const other = await startEdge({ limits: { http_body_bytes_max: 1_000_000, http_drain_ms: 300 } })
    for (const [size, status] of [
      [1_000_000, 201],
      [1_000_001, 413],
    ] as const) {
      const body = new ReadableStream({ start: (controller) => (controller.enqueue(new Uint8Array(size)), controller.close()) })
      expect((await other.fetch(`/${size}`, { method: 'PUT', body, duplex: 'half' })).status).toBe(status)
    }
    expect((await other.fetch('/1000001')).status).toBe(404)
    await other.close()
  })

  it('that end early change nothing', async () => {
    for (const head of [
      'content-length: 9\r\n\r\nabc',
      'content-length: 9000000\r\n\r\nabc',
      'transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n',
      'transfer-encoding: chunked\r\n\r\n200000\r\nabc',
      `transfer-encoding: chunked\r\n\r\n40000\r\n${'x'.repeat(0x40000)}\r\n`,
    ]) {
      const socket = await dial(http.port)
      socket.write(`PUT /v1/fs/early HTTP/1.1\r\n${auth}${head}`)
      await new Promise((resolve) => setImmediate(resolve))
      const closed = untilClosed(socket)
      socket.destroy()
      await closed
      expect((await http.fetch('/early')).status).toBe(404)
    }
    const [bad] = await rawAnswers(http.port, `PUT /v1/fs/early HTTP/1.1\r\n${auth}transfer-encoding: chunked\r\n\r\nzz\r\n`, {
      half: false,
    })
    expect(bad === undefined || bad.status === 400).toBe(true)
    await http.fetch('/kept', { method: 'PUT', body: 'kept' })
    const socket = await dial(http.port)
    const begun = `PUT /v1/fs/kept HTTP/1.1\r\n${auth}content-length: 9000000\r\n\r\n${'x'.repeat(1_000_000)}`
    await new Promise((resolve) => socket.write(begun, resolve))
    socket.destroy()
    expect(await (await http.fetch('/kept')).text()).toBe('kept')
  })
})

describe('slow peers', () => {
  let impatient: Started
  let head: string
  beforeAll(async () => {
    impatient = await startEdge({ limits: { handshake_ms: 400, http_body_stalled_ms: 400, session_stalled_ms: 500, http_drain_ms: 300 } })
    head = `host: x\r\nauthorization: Bearer ${impatient.owner}\r\n`
    await impatient.fetch('/secret', { method: 'PUT', body: 'inside' })
  })
  afterAll(() => impatient.close())

  const timed = async (act: (socket: Socket) => void): Promise<{ text: string; ms: number }> => {
    const socket = await dial(impatient.port)
    const begun = performance.now()
    const received = untilClosed(socket)
    act(socket)
    return { text: await received, ms: performance.now() - begun }
  }
  const drip = (socket: Socket, text: string): void => {
    let at = 0
    const timer = setInterval(() => socket.write(text[at++ % text.length]!), 50)
    socket.once('close', () => clearInterval(timer))
  }

  it('that drip headers, or say nothing, are closed', async () => {
    const slow = await Promise.all([
      timed((socket) => drip(socket, 'GET /v1/fs/abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz')),
      timed(() => undefined),
      timed((socket) => {
        socket.write('GET / HTTP/1.1\r\n')
        drip(socket, 'x: y\r\n')
      }),
    ])
    for (const { text, ms } of slow) {
      expect(ms).toBeLessThan(4_000)
      expect(parseAnswers(text).map(({ status }) => status)).toEqual([408])
    }
  })

  it('that stop in a body are told so', async () => {
    for (const framing of ['content-length: 10', 'content-length: 9000000', 'transfer-encoding: chunked']) {
      const { text, ms } = await timed((socket) => socket.write(`PUT /v1/fs/stall HTTP/1.1\r\n${head}${framing}\r\n\r\n2\r\n`))
      expect(ms).toBeLessThan(4_000)
      const [answer] = parseAnswers(text)
      expect([answer!.status, JSON.parse(answer!.body)]).toMatchObject([504, { kind: 'deadline' }])
    }
    expect((await impatient.fetch('/stall')).status).toBe(404)
  })

  it('that take nothing of an answer are closed, while others are served', async () => {
    await impatient.fetch('/wide', { method: 'PUT', body: new Uint8Array(32 * 1024 * 1024) })
    const socket = await dial(impatient.port)
    socket.pause()
    const before = impatient.observed.length
    socket.write(`GET /v1/fs/wide HTTP/1.1\r\n${head}\r\n`)
    for (let i = 0; i < 20; i++) expect(await (await impatient.fetch('/secret')).text()).toBe('inside')
    await expect.poll(() => impatient.observed.slice(before).length, { timeout: 5_000 }).toBe(21)
    socket.destroy()
  })

  it('that read slowly but do are not', async () => {
    const socket = await dial(impatient.port)
    let size = 0
    socket.on('data', (part) => {
      size += part.length
      socket.pause()
      setTimeout(() => socket.resume(), 2)
    })
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.write(`GET /v1/fs/wide HTTP/1.1\r\n${head}connection: close\r\n\r\n`)
    await closed
    expect(size).toBeGreaterThan(32 * 1024 * 1024)
  })

  it('of thousands of idle connections hold up nobody', async () => {
    const other = await startEdge()
    const before = process.memoryUsage().rss
    const sockets: Socket[] = []
    for (let i = 0; i < 20; i++) sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => dial(other.port)))))
    const begun = performance.now()
    for (let i = 0; i < 50; i++) expect((await other.fetch('/f', { method: 'PUT', body: String(i) })).ok).toBe(true)
    expect(performance.now() - begun).toBeLessThan(5_000)
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024)
    for (const socket of sockets) socket.destroy()
    await other.close()
  })
})

describe('many at once', () => {
  it('of one client all succeed', async () => {
    const puts = await Promise.all(Array.from({ length: 300 }, (_, i) => http.fetch(`/many/${i}`, { method: 'PUT', body: `value ${i}` })))
    expect(puts.map(({ status }) => status)).toEqual(Array(300).fill(201))
    const gets = await Promise.all(Array.from({ length: 300 }, async (_, i) => (await http.fetch(`/many/${i}`)).text()))
    expect(gets).toEqual(Array.from({ length: 300 }, (_, i) => `value ${i}`))
  })

  it('large bodies wait for room instead of failing', async () => {
    const other = await startEdge({ limits: { http_bodies_memory_bytes_max: 2_000_000 } })
    const body = Buffer.alloc(700_000, 'x')
    const puts = await Promise.all(Array.from({ length: 60 }, (_, i) => other.fetch(`/${i}`, { method: 'PUT', body })))
    expect(puts.map(({ status }) => status)).toEqual(Array(60).fill(201))
    await other.close()
  })
})

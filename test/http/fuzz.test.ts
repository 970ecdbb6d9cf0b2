/** Thousands of requests that nobody would write: each is answered as HTTP or cut off, and none is a failure of ours. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dial, parseAnswers, rawAnswers, untilClosed } from './raw.ts'
import { startEdge } from './start.ts'
import type { Started } from './start.ts'

const seed = Number(process.env['NINE_TEST_SEED'] ?? Date.now() % 2 ** 31)
let http: Started
beforeAll(async () => {
  http = await startEdge({ limits: { handshake_ms: 1_000, http_body_stalled_ms: 300, http_drain_ms: 100, request_ms_default: 2_000 } })
  await http.fetch('/a', { method: 'PUT', body: 'text' })
})
afterAll(() => http.close())

async function stillServes(): Promise<void> {
  expect(await (await fetch(`${http.origin}/healthz`)).text()).toBe('ok\n')
  expect(http.reported.map((error) => [error.message, error.cause])).toEqual([])
}

describe(`fuzz, NINE_TEST_SEED=${seed}`, () => {
  it('raw bytes', { timeout: 240_000 }, async () => {
    const line = fc.constantFrom(
      'GET',
      'PUT',
      'POST',
      '/v1/fs/a',
      '/v1/txn',
      ' ',
      'HTTP/1.1',
      'HTTP/1.0',
      '\r\n',
      '\n',
      '\r',
      ':',
      'host: x',
      'content-length: 4',
      'transfer-encoding: chunked',
      'expect: 100-continue',
      'connection: close',
      'upgrade: x',
      'connection: upgrade',
      '0\r\n\r\n',
      '5\r\nhello\r\n',
      'AUTH',
      '?watch',
      '?call',
      '%',
      '\0',
    )
    const noise = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1'))
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.oneof({ weight: 4, arbitrary: line }, noise), { maxLength: 25 }), { minLength: 20, maxLength: 20 }),
        async (texts) => {
          await Promise.all(
            texts.map(async (parts) => {
              const text = parts.join('').replaceAll('AUTH', `authorization: Bearer ${http.owner}\r\n`)
              const answers = await rawAnswers(http.port, Buffer.from(text, 'latin1'))
              for (const { status } of answers) expect([text, status]).toSatisfy(() => status < 500 || status === 501)
            }),
          )
          await stillServes()
        },
      ),
      { numRuns: 100, seed },
    )
  })

  it('requests of known parts', { timeout: 240_000 }, async () => {
    const text = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 8 }),
      fc.constantFrom(
        '',
        '0',
        '-1',
        '1',
        '99999999999999999999',
        '"x"',
        '*',
        'bytes=0-',
        'none',
        '/a',
        '..',
        '\0',
        '{}',
        '[]',
        'true',
        'recursive',
        '2026-01-01T00:00:00Z',
        '10s',
        '-',
      ),
    )
    const names = [
      'at',
      'consistency',
      'min_position',
      'list',
      'stat',
      'after',
      'cursor',
      'limit',
      'recursive',
      'prefix',
      'append',
      'offset',
      'ttl',
      'lease',
      'mkdir',
      'rename',
      'replace',
      'call',
      'symlink',
      'from',
      'previous',
      'rights',
      'nope',
    ]
    const query = fc
      .array(fc.tuple(fc.constantFrom(...names), text), { maxLength: 3 })
      .map((rows) => rows.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&'))
    const headerNames = [
      'range',
      'if-match',
      'if-none-match',
      'if-range',
      'idempotency-key',
      'nine-timeout',
      'content-type',
      'last-event-id',
      'traceparent',
      'expect',
      'origin',
      'accept-encoding',
    ]
    const headers = fc.dictionary(
      fc.constantFrom(...headerNames),
      text.map((value) => value.replace(/[^\x20-\x7e]/g, '')),
      { maxKeys: 3 },
    )
    const json = fc.oneof(
      fc.json({ maxDepth: 3 }),
      fc
        .record({
          then: fc.array(
            fc.record(
              {
                op: fc.constantFrom('write', 'stat', 'read', 'remove', 'rename', 'x'),
                path: text,
                to: text,
                bytes: text,
                ifMatch: fc.oneof(text, fc.json()),
              },
              { requiredKeys: ['op'] },
            ),
            { maxLength: 3 },
          ),
        })
        .map((body) => JSON.stringify(body)),
    )
    const one = fc.record({
      method: fc.constantFrom('GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE'),
      path: fc.oneof(
        fc.constantFrom('/v1/fs/a', '/v1/fs', '/v1/fs/', '/v1/txn', '/metrics', '/v1/fs/a/b/../c', '/readyz'),
        text.map((name) => `/v1/fs/${encodeURIComponent(name)}`),
      ),
      query,
      headers,
      body: fc.oneof(fc.constant(''), text, json),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(one, { minLength: 20, maxLength: 20 }), async (requests) => {
        await Promise.all(
          requests.map(async ({ method, path, query: search, headers: extra, body }) => {
            const socket = await dial(http.port)
            const received = untilClosed(socket)
            const bytes = Buffer.from(body)
            const head = {
              host: 'x',
              connection: 'close',
              authorization: `Bearer ${http.owner}`,
              'content-length': String(bytes.length),
              ...extra,
            }
            const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`)
            socket.write(
              Buffer.concat([
                Buffer.from(`${method} ${path}${search === '' ? '' : `?${search}`} HTTP/1.1\r\n${lines.join('')}\r\n`),
                bytes,
              ]),
            )
            const answers = parseAnswers(await received, method === 'HEAD' ? new Set([0]) : undefined)
            expect([method, path, search, extra, answers.length]).toEqual([method, path, search, extra, 1])
            const { status, head: answerHead, body: answerBody } = answers[0]!
            expect([method, path, search, extra, body, status]).toSatisfy(() => status < 500 || [501, 503, 504, 507].includes(status))
            if (status >= 400 && method !== 'HEAD' && /problem\+json/.test(answerHead))
              expect(JSON.parse(answerBody)).toMatchObject({ status })
          }),
        )
        await stillServes()
      }),
      { numRuns: 150, seed },
    )
  })
})

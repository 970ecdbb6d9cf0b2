/** Closing: requests under way finish, what never ends is ended, and nothing outlives the grace. TLS, and large values. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { dial, parseAnswers, untilClosed, untilReceived } from './raw.ts'
import { startEdge } from './start.ts'

describe('close', () => {
  it('lets requests under way finish, takes no new ones, and ends idle connections', async () => {
    let go: (() => void) | undefined
    const waiting = new Promise<void>((resolve) => (go = resolve))
    let arrived: (() => void) | undefined
    const here = new Promise<void>((resolve) => (arrived = resolve))
    const wrap = (server: FileServer): FileServer =>
      new Proxy(server, {
        get: (target, name) => {
          if (name !== 'write') return Reflect.get(target, name, target) as unknown
          return async (...args: Parameters<FileServer['write']>) => {
            arrived!()
            await waiting
            return target.write(...args)
          }
        },
      })
    const http = await startEdge({ wrap })
    const idle = await dial(http.port)
    const idleClosed = untilClosed(idle)
    const busy = await dial(http.port)
    const answer = untilClosed(busy)
    const head = `host: x\r\nauthorization: Bearer ${http.owner}\r\n`
    busy.write(`PUT /v1/fs/f HTTP/1.1\r\n${head}content-length: 1\r\n\r\nx`)
    await here
    const closed = http.edge.close(10_000)
    await expect(dial(http.port)).rejects.toThrow()
    go!()
    expect(parseAnswers(await answer).map(({ status }) => status)).toEqual([201])
    await Promise.all([closed, idleClosed])
    await http.close()
  })

  it('cuts what does not finish within its grace', async () => {
    let arrived: (() => void) | undefined
    const here = new Promise<void>((resolve) => (arrived = resolve))
    const never = (): Promise<never> => {
      arrived!()
      return new Promise(() => undefined)
    }
    const wrap = (server: FileServer): FileServer =>
      new Proxy(server, { get: (target, name): unknown => (name === 'write' ? never : Reflect.get(target, name, target)) })
    const http = await startEdge({ wrap })
    const socket = await dial(http.port)
    const received = untilClosed(socket)
    socket.write(`PUT /v1/fs/f HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${http.owner}\r\ncontent-length: 1\r\n\r\nx`)
    await here
    const begun = performance.now()
    await http.edge.close(300)
    expect(performance.now() - begun).toBeGreaterThan(250)
    expect(performance.now() - begun).toBeLessThan(3_000)
    expect(await received).toBe('')
    await http.close()
  })

  it('ends a watch with its last events told', async () => {
    const http = await startEdge()
    const socket = await dial(http.port)
    const head = untilReceived(socket, /\r\n\r\n/)
    socket.write(`GET /v1/fs/?watch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${http.owner}\r\n\r\n`)
    await head
    const rest = untilClosed(socket)
    await http.fetch('/f', { method: 'PUT', body: 'x' })
    await http.edge.close(5_000)
    expect(await rest).toMatch(/"path":"\/f"[^]*0\r\n\r\n$/)
  })

  it('of an address in use is unavailable', async () => {
    const http = await startEdge()
    await expect(startEdge({ port: http.port })).rejects.toSatisfy((error) => error instanceof NineError && error.kind === 'unavailable')
    await http.close()
  })
})

describe('TLS', () => {
  it('serves the same, and no plain HTTP', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'nine-tls-'))
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1']
    const files = ['-keyout', join(dir, 'key'), '-out', join(dir, 'cert')]
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', ...subject, ...files],
      { stdio: 'ignore' },
    )
    const tls = { key: readFileSync(join(dir, 'key')), cert: readFileSync(join(dir, 'cert')) }
    rmSync(dir, { recursive: true })
    const http = await startEdge({ tls, limits: { handshake_ms: 400 } })
    const headers = { authorization: `Bearer ${http.owner}` }
    const ask = (method: string, body?: string): Promise<[number, string]> =>
      new Promise((resolve, reject) => {
        const sent = request(`${http.origin}/v1/fs/f`, { method, headers, ca: tls.cert, agent: false }, (response) => {
          let text = ''
          response
            .setEncoding('utf8')
            .on('data', (part: string) => (text += part))
            .once('end', () => resolve([response.statusCode!, text]))
        })
        sent.once('error', reject).end(body)
      })
    expect((await ask('PUT', 'x'.repeat(300_000)))[0]).toBe(201)
    expect(await ask('GET')).toEqual([200, 'x'.repeat(300_000)])
    const plain = await dial(http.port)
    const received = untilClosed(plain)
    plain.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n')
    expect(await received).not.toMatch(/200 OK/)
    // Neither a handshake that never comes nor a request that never comes holds a connection.
    const silent = untilClosed(await dial(http.port))
    const quiet = connect({ port: http.port, host: '127.0.0.1', ca: tls.cert })
    await Promise.all([silent, untilClosed(quiet)])
    expect((await ask('GET'))[0]).toBe(200)
    await http.close()
  })
})

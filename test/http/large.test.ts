/**
 * Large bodies and values pass through in parts: what the edge holds does not depend on their size. NINE_TEST_LARGE_BYTES=1073741824
 * runs it with as much as the specification names.
 */
import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { describe, expect, it } from 'vitest'
import type { FileServer, HandleWriteResult, MutationResult, OpenResult, ReadResult, StatResult } from '../../namespace/file-server.ts'
import type { Stat } from '../../namespace/stat.ts'
import { startEdge } from './start.ts'

const size = Number(process.env['NINE_TEST_LARGE_BYTES'] ?? 256 * 1024 * 1024)
const held_bytes_max = 96 * 1024 * 1024

/** A tree whose one file's bytes are computed, and whose writes are only hashed, so that what memory grows is the edge's. */
function endless(server: FileServer): { readonly server: FileServer; readonly digest: () => string } {
  const hash = createHash('sha256')
  const qid = { type: 0, path: 7, version: 1 }
  const stat = { name: 'f', kind: 'file', qid, size, version: 1, revision: 1, createdRevision: 1, mode: 0, owner: '', group: '', modifiedBy: '', createdAt: 0, modifiedAt: 0 } as const satisfies Stat // prettier-ignore
  const position = [{ store: 's', incarnation: 'i', revision: 1, ordinal: 0 }]
  let written = 0
  const own: Partial<FileServer> = {
    stat: () => Promise.resolve<StatResult>({ stat, position }),
    read: (_context, _path, { offset = 0, length = 0 } = {}) =>
      Promise.resolve<ReadResult>({ bytes: pattern(offset, Math.min(length, size - offset)), stat, position }),
    open: () => Promise.resolve<OpenResult>({ handle: 1, stat, position }),
    writeHandle: (_context, _handle, bytes) => {
      hash.update(bytes)
      written += bytes.length
      return Promise.resolve<HandleWriteResult>({ written: bytes.length, size: written })
    },
    closeHandle: () => Promise.resolve<MutationResult>({ qid, revision: 1, created: true, size: written, position }),
  }
  const wrapped = new Proxy(server, { get: (target, name): unknown => Reflect.get(own, name) ?? Reflect.get(target, name, target) })
  return { server: wrapped, digest: () => hash.digest('hex') }
}

const block = Buffer.alloc(1024 * 1024 + 1, Buffer.from('0123456789abcdef'))

function pattern(offset: number, length: number): Buffer {
  return block.subarray(offset % 16, (offset % 16) + length)
}

describe(`a value of ${size} bytes`, () => {
  it('goes in and out with little memory', { timeout: 600_000 }, async () => {
    let digest = (): string => ''
    const http = await startEdge({
      wrap: (server) => {
        const made = endless(server)
        digest = made.digest
        return made.server
      },
    })
    const headers = { authorization: `Bearer ${http.owner}` }
    const start = process.memoryUsage().rss
    let peak = start
    const watchMemory = (): void => void (peak = Math.max(peak, process.memoryUsage().rss))
    const sentHash = createHash('sha256')
    const status = await new Promise<number>((resolve, reject) => {
      const sent = request(
        `${http.origin}/v1/fs/f`,
        { method: 'PUT', headers: { ...headers, 'content-length': size }, agent: false },
        (response) => {
          response.resume().once('end', () => resolve(response.statusCode!))
        },
      )
      sent.once('error', reject)
      let at = 0
      const send = (): void => {
        while (at < size) {
          const part = pattern(at, Math.min(1024 * 1024, size - at))
          sentHash.update(part)
          at += part.length
          watchMemory()
          if (!sent.write(part)) return void sent.once('drain', send)
        }
        sent.end()
      }
      send()
    })
    expect(status).toBe(201)
    expect(digest()).toBe(sentHash.copy().digest('hex'))
    const received = createHash('sha256')
    const response = await http.fetch('/f')
    expect(response.headers.get('content-length')).toBe(String(size))
    for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
      received.update(part)
      watchMemory()
    }
    expect(received.digest('hex')).toBe(sentHash.digest('hex'))
    expect(peak - start).toBeLessThan(held_bytes_max)
    await http.close()
  })
})

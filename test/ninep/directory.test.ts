/** Cookies of an open directory: what going back to any of them shows, and that they do not grow without bound. */
import { expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import type { FileServer, ListResult } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import { DirectoryStream } from '../../services/9p/directory.ts'
import { Qids } from '../../services/9p/qids.ts'
import { owner } from './edge.ts'

const root = parsePath('/')
const context = contextFor(owner, 60_000)

async function directoryOf(count: number): Promise<FileServer> {
  const server = new MemoryServer({ owner: owner.name })
  for (let i = 0; i < count; i++) await server.write(context, parsePath(`/${name(i)}`), Buffer.from('x'))
  return server
}
const name = (index: number): string => `f${String(index).padStart(4, '0')}`

/** Up to `most` names from where the stream is, each with its cookie. */
async function take(stream: DirectoryStream, most: number): Promise<[string, number][]> {
  const taken: [string, number][] = []
  await stream.fill(context, root, 4096, ({ stat }, cookie) => {
    if (taken.length === most) return false
    taken.push([stat.name, cookie])
    return true
  })
  return taken
}

it('going back to any cookie ever given leaves no entry out, however often the directory was read before', async () => {
  const count = 500
  const stream = new DirectoryStream(await directoryOf(count), new Qids())
  const all: [string, number][] = []
  for (let pass = 0; pass < 80; pass++) {
    stream.seek(0)
    for (let page = await take(stream, 170); page.length > 0; page = await take(stream, 170)) all.push(...page)
    // Once in each pass somebody goes back within it.
    stream.seek(all[all.length - count + 300]![1])
    all.push(...(await take(stream, 20)))
  }
  expect(all.length).toBeGreaterThan(2 * limits.ninep_directory_cookies_max)
  for (let at = 0; at < all.length; at += 37) {
    const [given, cookie] = all[at]!
    stream.seek(cookie)
    const [next] = await take(stream, 1)
    // Never past the entry that follows; at the end nothing may be left.
    if (given !== name(count - 1)) expect(next, `after ${given}`).toBeDefined()
    if (next !== undefined) expect(next[0] <= name(Number(given.slice(1)) + 1), `${next[0]} after ${given}`).toBe(true)
  }
})

it('pages of one entry, read over and over, take bounded time and memory', async () => {
  const stream = new DirectoryStream(await directoryOf(3), new Qids())
  const rounds = 60_000
  const begin = process.memoryUsage().heapUsed
  for (let round = 0; round < rounds; round++) {
    stream.seek(0)
    await take(stream, 1)
  }
  expect(stream.cookiesKept).toBeLessThanOrEqual(2 * limits.ninep_directory_cookies_max)
  expect(process.memoryUsage().heapUsed - begin).toBeLessThan(128 * 1024 * 1024)
})

it('keeps little of a large page that a small read does not take', async () => {
  const server = await directoryOf(3000)
  let listed = 0
  const counting = new Proxy(server, {
    get: (target, key) => {
      if (key !== 'list') return Reflect.get(target, key, target) as unknown
      return async (...args: Parameters<FileServer['list']>): Promise<ListResult> => {
        const page = await target.list(...args)
        listed += page.entries.length
        return page
      }
    },
  })
  const stream = new DirectoryStream(counting, new Qids())
  const names: string[] = []
  await stream.fill(context, root, 2 ** 20, ({ stat }) => names.push(stat.name) < 10)
  expect(stream.entriesWaiting).toBeLessThanOrEqual(1024)
  for (let page = await take(stream, 100); page.length > 0; page = await take(stream, 100)) names.push(...page.map(([entry]) => entry))
  expect(new Set(names).size).toBe(3000)
  expect(listed).toBeLessThan(9_000)
})

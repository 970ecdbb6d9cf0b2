/**
 * The cost of a path in process: walk and read of a small file through 0, 1, 3 and 8 mounts, one below the other, each
 * of another memory server; beside the same read asked of the server itself, in the same run.
 * Run: npx tsx bench/mounts.ts [reads]
 */
import { contextFor } from '../namespace/context.ts'
import { MemoryServer } from '../namespace/memory/memory-server.ts'
import { Namespace } from '../namespace/namespace.ts'
import { joinPath, parsePath } from '../namespace/path.ts'
import type { Path } from '../namespace/path.ts'
import type { FileServer } from '../namespace/file-server.ts'

const reads = Number(process.argv[2] ?? 400_000)
const file_count = 1_000
const context = contextFor({ name: 'bench', groups: [] }, Infinity)
const content = new TextEncoder().encode('a small file of sixty-four bytes, as state in a service often is')

async function reportReads(label: string, server: FileServer, paths: readonly string[]): Promise<void> {
  // Twice over before it counts, so that the compiler has seen it.
  for (let i = 0; i < 2 * file_count; i++) await server.read(context, parsePath(paths[i % paths.length]!))
  const before = process.memoryUsage().heapUsed
  const start = performance.now()
  // Every read parses its path, as a request's would be.
  for (let i = 0; i < reads; i++) await server.read(context, parsePath(paths[i % paths.length]!))
  const seconds = (performance.now() - start) / 1000
  const heap = (process.memoryUsage().heapUsed - before) / 2 ** 20
  const speed = Math.round(reads / seconds).toLocaleString('en')
  console.log(`${label.padEnd(44)} ${speed.padStart(10)} reads/s   heap ${heap.toFixed(0)} MiB more`)
}

for (const depth of [0, 1, 3, 8]) {
  const servers = Array.from({ length: depth + 1 }, () => new MemoryServer({ owner: 'bench' }))
  const last = servers.at(-1)!
  const namespace = new Namespace(servers[0])
  let at = '/' as Path
  for (let i = 1; i <= depth; i++) {
    at = joinPath(at, parsePath(`/mount${i}`))
    await namespace.mount(context, servers[i]!, at)
  }
  const files = Array.from({ length: file_count }, (_, i) => parsePath(`/some/folder/file${i}`))
  for (const file of files) await last.write(context, file, content, { parents: true })
  if (depth === 0) await reportReads('the server itself', last, files)
  await reportReads(
    `namespace, ${depth} mounts, paths seen before`,
    namespace,
    files.map((file) => joinPath(at, file)),
  )
  // More paths than the table remembers: every read walks.
  const many = Array.from({ length: 20 * file_count }, (_, i) => joinPath(at, parsePath(`/some/folder/folder${i}/file`)))
  const own = many.map((file) => file.slice(at === '/' ? 0 : at.length))
  for (const file of own) await last.write(context, parsePath(file), content, { parents: true })
  if (depth === 0) await reportReads('the server itself, many paths', last, own)
  await reportReads(`namespace, ${depth} mounts, every path walked`, namespace, many)
  for (const server of servers) server.close()
}

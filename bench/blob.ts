/**
 * Large values: MiB/s of writing and reading one value in sequence, beside a plain file in the same folder and run.
 * Run: npx tsx bench/blob.ts [MiB] [folder]
 */
import { randomFillSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readRange } from '../storage/blob/chunk-tree.ts'
import { collect } from '../storage/blob/collect.ts'
import { openFileBlobs } from '../storage/blob/files.ts'
import { BlobPins } from '../storage/blob/pins.ts'
import { isInline, ValueBuilder } from '../storage/blob/value-builder.ts'

const mib = Number(process.argv[2] ?? 256)
const size = mib * 1024 * 1024
const piece = Buffer.alloc(256 * 1024)
const folder = mkdtempSync(join(process.argv[3] ?? tmpdir(), 'nine-bench-blob-'))
/** Pieces differ, so that no chunk is found in place. */
const content = randomFillSync(Buffer.alloc(8 * 1024 * 1024))

function pieceAt(offset: number): Uint8Array {
  content.copy(piece, 0, offset % (content.length - piece.length))
  piece.writeDoubleLE(offset, 0)
  return piece
}

async function measured(label: string, work: () => Promise<void>): Promise<number> {
  const start = performance.now()
  await work()
  const speed = mib / ((performance.now() - start) / 1000)
  console.log(
    `${label.padEnd(46)} ${speed.toFixed(0).padStart(6)} MiB/s   resident ${(process.memoryUsage.rss() / 2 ** 20).toFixed(0)} MiB`,
  )
  return speed
}

try {
  const plainWrite = await measured('plain file, write then one fdatasync', async () => {
    const file = await open(join(folder, 'plain'), 'w')
    for (let at = 0; at < size; at += piece.length) await file.write(pieceAt(at), 0, piece.length, at)
    await file.datasync()
    await file.close()
  })
  const plainRead = await measured('plain file, read', async () => {
    const file = await open(join(folder, 'plain'), 'r')
    const into = Buffer.alloc(1024 * 1024)
    for (let at = 0; at < size; at += into.length) await file.read(into, 0, into.length, at)
    await file.close()
  })
  const store = await openFileBlobs({ folder: join(folder, 'blobs') })
  const pins = new BlobPins()
  const builder = new ValueBuilder({ store, pins })
  const write = await measured('value, appended in 256 KiB, durable', async () => {
    for (let at = 0; at < size; at += piece.length) await builder.append(pieceAt(at))
    await builder.finish()
  })
  const value = await builder.finish()
  if (isInline(value)) throw new Error('the value is too small for this bench')
  const read = await measured('value, read in 1 MiB, every chunk verified', async () => {
    for (let at = 0; at < size; at += 1024 * 1024) await readRange(store, value, at, 1024 * 1024)
  })
  await measured('value, same bytes written again', async () => {
    const again = new ValueBuilder({ store, pins })
    for (let at = 0; at < size; at += piece.length) await again.append(pieceAt(at))
    await again.finish()
    await again.release()
  })
  await builder.release()
  await measured('collection of all of it', async () => {
    const report = await collect({ store, pins, roots: [], olderThanMs: 0 })
    if (report.kept !== 0) throw new Error(`${report.kept} chunks were kept`)
  })
  const small = new ValueBuilder({ store, pins })
  const count = 200_000
  const start = performance.now()
  for (let i = 0; i < count; i++) await small.append(piece.subarray(0, 256))
  console.log(`appends of 256 B, staged one at a time: ${((count / (performance.now() - start)) * 1000).toFixed(0)}/s`)
  await small.release()
  await store.close()
  console.log(`of the plain file: write ${(write / plainWrite).toFixed(2)} x, read ${(read / plainRead).toFixed(2)} x`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** A file that is read while it is written. */
import { mkdtemp, open, readFile, rm, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { GrowingFile } from '../../storage/snapshot/growing-file.ts'

let dir: string
/** What all open files are made from, so that a test can stand between them and the disk. */
let files: FileHandle
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'nine-growing-'))
  const file = await open(join(dir, 'any'), 'w')
  files = Object.getPrototypeOf(file) as FileHandle
  await file.close()
})
afterEach(() => void vi.restoreAllMocks())
afterAll(() => rm(dir, { recursive: true }))

async function readAt(file: GrowingFile, offset: number, length = 100): Promise<string> {
  const into = Buffer.alloc(length)
  return into.subarray(0, await file.read(into, offset)).toString()
}

describe('a growing file', () => {
  it('gives what is there at once, waits for more, and has an end only when it was told of one', async () => {
    const file = await GrowingFile.open(join(dir, 'a'))
    await file.write(Buffer.from('first '))
    expect(await readAt(file, 0)).toBe('first ')
    expect(await readAt(file, 2, 3)).toBe('rst')
    const readers = [readAt(file, 6), readAt(file, 6, 2)]
    await file.write(Buffer.from('second'))
    expect(await Promise.all(readers)).toEqual(['second', 'se'])
    const last = readAt(file, 12)
    await file.end()
    expect(await last).toBe('')
    expect(await readAt(file, 0)).toBe('first second')
    await file.close()
    expect(await readFile(join(dir, 'a'), 'utf8')).toBe('first second')
  })

  it('goes on behind what was there, and gives that too', async () => {
    const before = await GrowingFile.open(join(dir, 'b'))
    await before.write(Buffer.from('one'))
    await before.close()
    const file = await GrowingFile.open(join(dir, 'b'))
    expect(file.length).toBe(3)
    await file.write(Buffer.from('two'))
    const source = file.follow()
    const into = Buffer.alloc(6)
    expect(await source.read(into)).toBe(6)
    expect(into.toString()).toBe('onetwo')
    const rest = source.read(Buffer.alloc(1))
    await file.end()
    expect(await rest).toBe(0)
    await file.close()
  })

  it('tells its failure to readers that wait, to who reads what is there, and to the writer: the first', async () => {
    const file = await GrowingFile.open(join(dir, 'c'))
    await file.write(Buffer.from('some'))
    const waiting = readAt(file, 4)
    file.fail(new Error('the first'))
    file.fail(new Error('the second'))
    for (const one of [waiting, readAt(file, 0), file.write(Buffer.from('more')), file.end()])
      await expect(one).rejects.toThrow('the first')
    await file.close()
  })

  /** Each sync from now on waits to be told how it ends. */
  function held(): ((error?: Error) => void)[] {
    const syncs: ((error?: Error) => void)[] = []
    vi.spyOn(files, 'datasync').mockImplementation(
      () => new Promise((resolve, reject) => syncs.push((error) => (error === undefined ? resolve() : reject(error)))),
    )
    return syncs
  }

  /** Whether it is over, once the file has this length and all that follows from it was done. */
  async function isOver(file: GrowingFile, length: number, done: Promise<void>): Promise<boolean> {
    let isDone = false
    done.then(
      () => (isDone = true),
      () => (isDone = true),
    )
    while (file.length < length) await new Promise(setImmediate)
    await new Promise(setImmediate)
    return isDone
  }

  it('waits for stable storage where more than may is not there, and at its end until all is', async () => {
    const syncs = held()
    const file = await GrowingFile.open(join(dir, 'held'))
    const half = Buffer.alloc(limits.snapshot_unsynced_bytes / 2, 7)
    await file.write(half)
    expect(syncs.length).toBe(0)
    await file.write(half)
    await file.write(half)
    expect(syncs.length).toBe(1)
    const fourth = file.write(half)
    expect(await isOver(file, 4 * half.length, fourth)).toBe(false)
    syncs[0]!()
    await fourth
    expect(syncs.length).toBe(2)
    const end = file.end()
    expect(await isOver(file, 0, end)).toBe(false)
    syncs[1]!()
    while (syncs.length < 3) await new Promise(setImmediate)
    expect(await isOver(file, 0, end)).toBe(false)
    syncs[2]!()
    await end
    await file.close()
  })

  it('tells everybody that stable storage failed, and is closed only when nothing is under way there', async () => {
    const syncs = held()
    const file = await GrowingFile.open(join(dir, 'failing'))
    await file.write(Buffer.alloc(limits.snapshot_unsynced_bytes))
    const waiting = readAt(file, limits.snapshot_unsynced_bytes)
    const closed = file.close()
    // Still open.
    expect(await readAt(file, 0, 1)).toBe('\0')
    syncs[0]!(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
    await expect(waiting).rejects.toThrow('EIO')
    await expect(file.end()).rejects.toThrow('EIO')
    await closed
  })

  it('leaves out stable storage where it need not outlive the process', async () => {
    const syncs = held()
    const file = await GrowingFile.open(join(dir, 'brief'), { isDurable: false })
    await file.write(Buffer.alloc(3 * limits.snapshot_unsynced_bytes))
    await file.end()
    expect(syncs.length).toBe(0)
    await file.close()
  })

  it('takes more than may wait for the disk', async () => {
    const file = await GrowingFile.open(join(dir, 'd'))
    const bytes = Buffer.alloc(limits.snapshot_unsynced_bytes / 4, 7)
    for (let i = 0; i < 10; i++) await file.write(bytes)
    await file.end()
    expect(file.length).toBe(10 * bytes.length)
    await file.close()
    expect((await readFile(join(dir, 'd'))).equals(Buffer.alloc(10 * bytes.length, 7))).toBe(true)
  })

  it('says which file and why when it cannot be opened', async () => {
    await expect(GrowingFile.open(join(dir, 'missing', 'e'))).rejects.toMatchObject({ kind: 'not_found', op: 'snapshot.file' })
  })
})

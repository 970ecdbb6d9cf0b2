/** Promise 1 on the real disk: what is acknowledged was made durable by the system, not only handed to it. */
import fs from 'node:fs'
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { openWal } from '../../storage/wal/wal.ts'

const real = { open: fs.open, fdatasync: fs.fdatasync, fsync: fs.fsync, rename: fs.rename }
let dir: string

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'nine-durable-'))
})

afterEach(() => {
  Object.assign(fs, real)
  syncBuiltinESMExports()
  rmSync(dir, { recursive: true, force: true })
})

it.runIf(process.platform === 'linux')('the log is written through a descriptor whose writes are durable when they return', async () => {
  const wal = await openWal({ dir: join(dir, 'wal') })
  await wal.append([Buffer.from('x')])
  const flags = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      if (!readlinkSync(`/proc/self/fd/${fd}`).startsWith(join(dir, 'wal'))) return []
      return [Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!, 8)]
    } catch {
      return [] // The descriptor of readdir itself.
    }
  })
  await wal.close()
  expect(flags.length).toBeGreaterThan(0)
  expect(flags.filter((flag) => (flag & fs.constants.O_DSYNC) !== 0)).toHaveLength(flags.length)
})

it('a chunk is synced before it has its name, and its folder before the put answers', async () => {
  const calls: string[] = []
  const paths = new Map<number, string>()
  Object.assign(fs, {
    open: (path: string, ...rest: unknown[]) => {
      const done = rest.pop() as (error: Error | null, fd: number) => void
      ;(real.open as (...all: unknown[]) => void)(path, ...rest, (error: Error | null, fd: number) => {
        paths.set(fd, path)
        done(error, fd)
      })
    },
    fdatasync: (fd: number, done: fs.NoParamCallback) => {
      calls.push(paths.get(fd)!.startsWith(join(dir, 'blobs', 'tmp')) ? 'sync file' : 'sync other')
      real.fdatasync(fd, done)
    },
    fsync: (fd: number, done: fs.NoParamCallback) => {
      calls.push(`sync ${paths.get(fd)!.slice(-2)}`)
      real.fsync(fd, done)
    },
    rename: (from: string, to: string, done: fs.NoParamCallback) => {
      calls.push('name')
      real.rename(from, to, done)
    },
  })
  syncBuiltinESMExports()
  // The module takes the calls when it is loaded.
  vi.resetModules()
  const { openFileBlobs } = await import('../../storage/blob/files.ts')
  const store = await openFileBlobs({ folder: join(dir, 'blobs') })
  calls.length = 0
  const hash = await store.put(Buffer.from('chunk'))
  expect(calls).toEqual(['sync file', 'name', `sync ${hash.slice(0, 2)}`])
  await store.close()
})

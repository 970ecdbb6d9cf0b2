/**
 * The lock of a data folder: at most one process has it open.
 *
 * K1 The lock ends with its process, however that ends: nothing has to be cleaned up after kill -9.
 * K2 Two processes that start at the same moment cannot both get it.
 *
 * On Linux the lock is an abstract Unix socket named after the folder's device and inode: binding it is atomic, and the
 * kernel frees it with the process (unix(7)). Whoever is refused connects and is told the holder's pid. Processes in
 * different network namespaces do not see each other's sockets: containers must not share a data folder.
 * Elsewhere it is a file that names the pid, made by link(2); a file whose process is gone is moved away by rename(2),
 * which only one of several starters can do.
 */
import { linkSync, readFileSync, renameSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { NineError } from '../../namespace/errors.ts'

export interface FolderLock {
  release(): Promise<void>
}

/** Longest wait for the holder to tell its pid, milliseconds. */
const ask_ms_max = 500
const op = 'storage.open'

/**
 * Take the lock of `dir`.
 * @throws NineError `unavailable` when another process (or another engine of this one) has it; the message names the pid
 */
export async function lockFolder(dir: string, platform: string = process.platform): Promise<FolderLock> {
  return platform === 'linux' ? lockBySocket(dir) : lockByFile(dir)
}

async function lockBySocket(dir: string): Promise<FolderLock> {
  const { dev, ino } = statSync(dir, { bigint: true })
  const name = `\0ninefold-data-${dev}-${ino}`
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end(`${process.pid}\n`)
  })
  const failure = await listen(server, name)
  if (failure === undefined) {
    server.unref()
    // For people: the socket alone decides.
    writeFileSync(join(dir, 'lock'), `${process.pid}\n`)
    return { release: () => new Promise((resolve) => server.close(() => resolve())) }
  }
  if (failure.code !== 'EADDRINUSE') {
    throw new NineError({ kind: 'internal', op, path: dir, message: `cannot lock ${dir}: ${failure.message}`, cause: failure })
  }
  throw lockedBy(dir, (await askPid(name)) ?? pidIn(join(dir, 'lock')))
}

function listen(server: Server, name: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    server.once('error', resolve)
    server.listen(name, () => {
      server.removeListener('error', resolve)
      resolve(undefined)
    })
  })
}

function askPid(name: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const socket = connect(name)
    socket.setTimeout(ask_ms_max, () => socket.destroy())
    socket.once('data', (data) => {
      resolve(Number.parseInt(data.toString(), 10) || undefined)
      socket.destroy()
    })
    socket.on('error', () => undefined)
    socket.once('close', () => resolve(undefined))
  })
}

function lockByFile(dir: string): FolderLock {
  const file = join(dir, 'lock')
  const claim = join(dir, `lock.${process.pid}`)
  writeFileSync(claim, `${process.pid}\n`)
  try {
    for (;;) {
      if (tryLink(claim, file)) return { release: async () => unlinkSync(file) }
      const pid = pidIn(file)
      if (pid !== undefined && isAlive(pid)) throw lockedBy(dir, pid)
      // K2: of several starters that saw the same dead owner, one rename succeeds; the others come round again.
      const away = `${claim}.stale`
      try {
        renameSync(file, away)
      } catch {
        continue
      }
      const moved = pidIn(away)
      if (moved !== pid && moved !== undefined && isAlive(moved)) tryLink(away, file)
      unlinkSync(away)
    }
  } finally {
    unlinkSync(claim)
  }
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function pidIn(file: string): number | undefined {
  try {
    return Number.parseInt(readFileSync(file, 'utf8'), 10) || undefined
  } catch {
    return undefined
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

function lockedBy(dir: string, pid: number | undefined): NineError {
  const who = pid === undefined ? 'another process' : pid === process.pid ? `this process (pid ${pid})` : `the process with pid ${pid}`
  const message = `${dir} is in use by ${who}: a data folder is open in one process at a time`
  return new NineError({ kind: 'unavailable', op, path: dir, message, retryable: false })
}

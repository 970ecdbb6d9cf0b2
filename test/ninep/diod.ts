/** A real diod (Debian package diod, 9P2000.L) that serves a folder of its own. */
import { spawn } from 'node:child_process'
import { accessSync, constants, mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../faults/free-ports.ts'

const binary = '/usr/sbin/diod'

export const hasDiod = isExecutable(binary)

/** Who the server lets attach: diod that was not started by root serves its own user only. */
export const diodUid = process.getuid?.() ?? 0

export interface Diod {
  /** `HOST:PORT` */
  readonly address: string
  /** The folder it serves, which is also its attach name. */
  readonly folder: string
  close(): Promise<void>
}

export async function startDiod(): Promise<Diod> {
  const folder = mkdtempSync(join(tmpdir(), 'nine-diod-'))
  const port = await freePort()
  const address = `127.0.0.1:${port}`
  const args = ['-f', '-n', '-N', '-L', 'stderr', '-c', '/dev/null', '-l', address, '-e', folder]
  const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-4096)))
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  let isEnded = false
  void ended.then(() => (isEnded = true))
  while (!(await isListening(port))) if (isEnded) throw new Error(`diod ended: ${said}`)
  return {
    address,
    folder,
    close: async () => {
      child.kill('SIGKILL')
      await ended
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => setTimeout(() => resolve(false), 5))
  })
}

/** diod as a peer: Debian's 9P2000.L server, in C, over a folder. */
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { freePort } from './etcd.ts'

const binary = '/usr/sbin/diod'

export interface DiodServer {
  /** `HOST:PORT` */
  readonly address: string
  stop(): Promise<void>
}

/** A server of `folder`, whose attach name is that path; or why there is none. */
export async function startDiod(folder: string): Promise<DiodServer | string> {
  try {
    accessSync(binary, constants.X_OK)
  } catch {
    return `there is no ${binary} (Debian: diod)`
  }
  const port = await freePort()
  const address = `127.0.0.1:${port}`
  const args = ['-f', '-n', '-N', '-L', 'stderr', '-c', '/dev/null', '-l', address, '-e', folder]
  const server = spawn(binary, args, { stdio: 'ignore' })
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()))
  while (!(await isListening(port))) {
    if (server.exitCode !== null) return `it ended with ${server.exitCode}`
    await setTimeout(5)
  }
  return {
    address,
    stop: () => {
      server.kill('SIGKILL')
      return ended
    },
  }
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => (socket.destroy(), resolve(true)))
    socket.once('error', () => resolve(false))
  })
}

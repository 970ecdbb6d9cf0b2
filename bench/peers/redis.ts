/** Redis as a peer: appendfsync always, driven by redis-benchmark. Its watch has no counterpart here. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { freePort, isOnPath, run } from './etcd.ts'
import type { PeerRates } from './etcd.ts'

/** @returns the rates, or why there are none */
export async function runRedis(operations: number): Promise<PeerRates | string> {
  if (!isOnPath('redis-server') || !isOnPath('redis-benchmark'))
    return 'redis-server or redis-benchmark is not on PATH (Debian: redis-server, redis-tools)'
  const folder = mkdtempSync(join(tmpdir(), 'nine-bench-redis-'))
  const port = await freePort()
  const options = [
    '--appendonly',
    'yes',
    '--appendfsync',
    'always',
    '--save',
    '',
    '--dir',
    folder,
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
  ]
  const server = spawn('redis-server', options, { stdio: 'ignore' })
  try {
    await listening(port)
    const rate = async (test: 'set' | 'get', clients: number, n: number): Promise<number> => {
      const args = ['-p', String(port), '-t', test, '-d', '256', '-c', String(clients), '-n', String(n), '-r', '10000', '--csv']
      const { stdout } = await run('redis-benchmark', args)
      const row = stdout.split('\n').find((line) => line.startsWith(`"${test.toUpperCase()}"`))
      return Number(row?.split(',')[1]?.replaceAll('"', ''))
    }
    return {
      putsOnePerSecond: await rate('set', 1, operations / 10),
      putsManyPerSecond: await rate('set', 200, operations),
      getsOnePerSecond: await rate('get', 1, operations / 2),
      getsManyPerSecond: await rate('get', 200, operations * 2),
    }
  } finally {
    server.kill('SIGTERM')
    await new Promise((resolve) => server.once('exit', resolve))
    rmSync(folder, { recursive: true })
  }
}

/** A process of somebody else tells of its readiness by its port only, so this looks at it. */
async function listening(port: number): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.destroy()
        resolve(true)
      }).once('error', () => resolve(false))
    })
    if (isOpen) return
    await setTimeout(25)
  }
  throw new Error('redis-server does not listen')
}

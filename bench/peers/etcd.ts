/** etcd as a peer: one node from PATH in a folder of its own, driven by its own Go client (bench/peers/etcd). */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'

export interface PeerRates {
  readonly putsOnePerSecond: number
  readonly putsManyPerSecond: number
  readonly getsOnePerSecond: number
  readonly getsManyPerSecond: number
  readonly putToWatchMedianMicros?: number
  readonly fanOutEventsPerSecond?: number
}

/** @returns the rates, or why there are none */
export async function runEtcd(operations: number): Promise<PeerRates | string> {
  if (!isOnPath('etcd')) return 'etcd is not on PATH (Debian: etcd-server)'
  const client = buildClient()
  if (client === undefined) return 'its client could not be built (needs go)'
  const folder = mkdtempSync(join(tmpdir(), 'nine-bench-etcd-'))
  const [clientPort, peerPort] = [await freePort(), await freePort()]
  const endpoint = `http://127.0.0.1:${clientPort}`
  const peer = `http://127.0.0.1:${peerPort}`
  const server = spawn(
    'etcd',
    [
      ['--data-dir', folder, '--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
      ['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `default=${peer}`, '--log-level', 'error'],
    ].flat(),
    { stdio: 'ignore' },
  )
  try {
    const { status, stdout, stderr } = await run(client, ['-endpoint', endpoint, '-n', String(operations)])
    return status === 0 ? (JSON.parse(stdout) as PeerRates) : `its client failed: ${stderr.trim()}`
  } finally {
    server.kill('SIGTERM')
    await new Promise((resolve) => server.once('exit', resolve))
    rmSync(folder, { recursive: true })
  }
}

/** Built once into the user's cache. */
function buildClient(): string | undefined {
  if (!isOnPath('go')) return undefined
  const target = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'ninefold', 'etcdbench')
  const built = spawnSync('go', ['build', '-o', target, '.'], { cwd: join(import.meta.dirname, 'etcd'), stdio: 'ignore' })
  return built.status === 0 ? target : undefined
}

export function isOnPath(command: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' }).status === 0
}

export function run(command: string, args: readonly string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (part: Buffer) => (stdout += part.toString()))
  child.stderr.on('data', (part: Buffer) => (stderr += part.toString()))
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, stdout, stderr })))
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer()
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}

/** diod's own clients (Debian package diod, 9P2000.L): `diodls`, `diodcat` and `diodload`, run at a server. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { isExecutable } from './diod.ts'

export type Tool = 'diodls' | 'diodcat' | 'diodload'

const folder = '/usr/sbin'

export const hasDiodTools = (['diodls', 'diodcat', 'diodload'] as const).every((tool) => isExecutable(`${folder}/${tool}`))

export interface ToolRun {
  readonly code: number | null
  /** What it wrote, up to kept_bytes_max. */
  readonly text: string
  readonly bytes: number
  /** SHA-256 of all that it wrote. */
  readonly digest: string
  readonly stderr: string
}

const kept_bytes_max = 8 * 1024 * 1024

export function runTool(tool: Tool, args: readonly string[]): Promise<ToolRun> {
  const child = spawn(`${folder}/${tool}`, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TZ: 'UTC' } })
  const hash = createHash('sha256')
  const parts: Buffer[] = []
  let bytes = 0
  let stderr = ''
  child.stdout.on('data', (part: Buffer) => {
    if (bytes < kept_bytes_max) parts.push(part)
    bytes += part.length
    hash.update(part)
  })
  child.stderr.on('data', (part: Buffer) => (stderr += part.toString()))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, text: Buffer.concat(parts).toString(), bytes, digest: hash.digest('hex'), stderr }))
  })
}

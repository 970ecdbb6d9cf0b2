/**
 * `DATA/cluster.json`: to which cluster a folder belongs, and as whom.
 *
 * C1 It is written as a whole and durable before anything is done on the strength of it: before a join is asked for, and before a cluster
 *    that was founded is told to anybody.
 * C2 A member id names one life of one disk: it is made with the file and ends with it, so that no vote is ever forgotten under its id.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { NineError } from '../../namespace/errors.ts'
import type { Random } from '../../namespace/random.ts'
import { folderError, writeDurably } from '../../storage/engine/folder.ts'

/**
 * How far the folder is: `recovering`, it is to found a cluster with what it has of the one before (recovery.ts); `founding`, it has
 * founded a cluster and not yet noted in it what belongs to it; `joining`, it may have asked to be taken in and holds no store yet; `member`.
 */
export type Stage = 'recovering' | 'founding' | 'joining' | 'member'

export interface ClusterFile {
  readonly format: 1
  /** Id of the cluster. */
  readonly cluster: string
  /** Member id, `NAME.SUFFIX`. */
  readonly member: string
  readonly name: string
  readonly stage: Stage
  /** As given when it was last started; for messages. */
  readonly peers: readonly { readonly name: string; readonly address: string }[]
}

const text = z.string().min(1).max(255)
const shape = z.object({
  format: z.literal(1),
  cluster: text,
  member: text,
  name: text,
  stage: z.enum(['recovering', 'founding', 'joining', 'member']),
  peers: z.array(z.object({ name: text, address: text })),
})

const op = 'cluster.open'

/** Of a folder that need not exist. undefined: it belongs to no cluster. @throws NineError `corrupt`, `unsupported` (newer format), `denied` */
export function readClusterFile(dir: string): ClusterFile | undefined {
  const file = join(dir, 'cluster.json')
  let read: string
  try {
    read = readFileSync(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw folderError(error, file)
  }
  let value: unknown
  try {
    value = JSON.parse(read)
  } catch {
    // Answered below, like every other text that is no such file.
  }
  const format = (value as { readonly format?: unknown } | undefined)?.format
  if (typeof format === 'number' && format > 1) {
    const message = `${file} has format ${format}, this program knows 1: use a newer ninefold`
    throw new NineError({ kind: 'unsupported', op, path: file, message })
  }
  const parsed = shape.safeParse(value)
  if (parsed.success && parsed.data.member.startsWith(`${parsed.data.name}.`)) return parsed.data
  const message = `${file} is damaged: restore it, or give this node an empty folder to join its cluster with`
  throw new NineError({ kind: 'corrupt', op, path: file, message })
}

/** Durable when it returns. C1 @throws NineError `no_space`, `denied`, `read_only` */
export function writeClusterFile(dir: string, file: ClusterFile): void {
  try {
    writeDurably(join(dir, 'cluster.json'), `${JSON.stringify(file, undefined, 1)}\n`)
  } catch (error) {
    throw folderError(error, dir)
  }
}

export function newClusterId(random: Random): string {
  return random.id().slice(0, 12)
}

/** C2 */
export function newMemberId(name: string, random: Random): string {
  return `${name}.${random.id().slice(0, 10)}`
}

/** The node whose life a member id names. */
export function nameOfMember(member: string): string {
  return member.slice(0, member.lastIndexOf('.'))
}

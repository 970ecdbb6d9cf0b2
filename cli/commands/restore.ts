/** raft restore: a store of nodes that serve is made what a backup says; with --data, one of a folder that no node has open. */
import { createReadStream } from 'node:fs'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { NineError } from '../../namespace/errors.ts'
import { formatTime } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { parseName } from '../../namespace/path.ts'
import { systemRandom } from '../../namespace/random.ts'
import type { Client } from '../../sdk/client-api.ts'
import { printable } from '../render/long.ts'
import { formatBytes, terminalProgress } from '../transfer/progress.ts'
import type { Run } from './command.ts'

export interface RestoreRunningFlags {
  readonly store?: string
  readonly yes?: boolean
  readonly force?: boolean
}

/** Waits no longer for one answer; what is under way goes on, and is asked for again. */
const ask_ms = 30_000
const again_ms = 250
const op = 'cli.restore'

/** @throws NineError `not_found` and `corrupt` of the file, as the node answers */
export async function restoreRunning(
  { session, output, signal, timeoutMs = Infinity }: Run,
  file: string,
  flags: RestoreRunningFlags,
): Promise<void> {
  const { client } = session
  const store = parseName(flags.store ?? 'data', op)
  const path = resolve(file)
  const { checkBackup, checkRestorable, readHeader, verifySnapshot } = await import('../../services/node/backups.ts')
  const progress = terminalProgress('restore')
  let before = 0
  const counted = (bytes: number): void => {
    progress.add(0, bytes - before)
    before = bytes
  }
  try {
    checkRestorable(store)
    // All that its first bytes tell comes before what takes long.
    checkBackup(await readHeader(path), store, (await identityOf(client, store)).id, flags)
    const { header, bytes, chunks, hash } = await verifySnapshot(path, { progress: counted, signal })
    const of = `${printable(header.name)} as of revision ${header.revision}, ${formatTime(header.createdAt)}`
    if (flags.yes !== true) await confirm(`Store ${printable(store)} becomes ${of}. What was changed since is lost. Go on?`)
    const name = `${store}-${systemRandom.id()}`
    const uploaded = `/sys/restore/${name}`
    before = 0
    const parts = createReadStream(path, { highWaterMark: limits.chunk_bytes }) as AsyncIterable<Uint8Array>
    await client.writeStream(uploaded, parts, { parents: true, timeoutMs: Infinity, onProgress: counted })
    const words = ['restore', name, ...(flags.force === true ? ['force'] : [])]
    try {
      await until(timeoutMs, signal, (ms) => client.write(`/raft/${store}/ctl`, `${words.join(' ')}\n`, { timeoutMs: ms }))
    } catch (error) {
      // What was not begun with is of no use to anybody.
      if (!signal.aborted) await client.remove(uploaded).catch(() => undefined)
      else
        process.stderr.write(`nine: the restore was asked for and may be made all the same: nine cat /raft/${printable(store)}/restores\n`)
      throw error
    }
    progress.stop()
    const { id, incarnation } = await identityOf(client, store)
    const { revision, createdAt } = header
    if (output.isJson) {
      await output.json({ store, id, incarnation, revision, createdAt: formatTime(createdAt), bytes, chunks, sha256: hash })
    } else {
      await output.line(`store ${printable(store)} is ${of}; ${formatBytes(bytes)}, ${chunks} chunks of large values`)
    }
  } finally {
    progress.stop()
  }
}

/** @throws NineError `not_found` */
async function identityOf(client: Client, store: string): Promise<{ readonly id: string; readonly incarnation: string }> {
  return JSON.parse(await client.readText(`/sys/stores/${store}`)) as { id: string; incarnation: string }
}

/** Until it is done or refused, the time is over or nobody waits: an answer that is late, or was lost with its node, says nothing. */
async function until(timeoutMs: number, signal: AbortSignal, ask: (ms: number) => Promise<unknown>): Promise<void> {
  const end = performance.now() + timeoutMs
  for (;;) {
    const left = end - performance.now()
    try {
      await ask(Math.max(1, Math.min(ask_ms, left)))
      return
    } catch (error) {
      const isOpen =
        error instanceof NineError && (error.kind === 'deadline' || (error.kind === 'unavailable' && error.outcome === 'unknown'))
      if (!isOpen || signal.aborted || performance.now() >= end) throw error
    }
    await sleep(again_ms)
  }
}

async function confirm(question: string): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new NineError({ kind: 'invalid', op, message: `${question} There is nobody to ask: --yes says so` })
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await terminal.question(`${question} [y/N] `)
    if (/^y(es)?$/i.test(answer.trim())) return
  } finally {
    terminal.close()
  }
  throw new NineError({ kind: 'invalid', op, message: 'nothing was changed' })
}

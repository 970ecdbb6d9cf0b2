/**
 * Staged: another state of a group, put together beside the one it has, under a slot of its own (slots.ts).
 *
 * S1 The group's state is the old one until `take` has committed, and the new one from then on, whatever crashes when.
 * S2 What was put here is on stable storage before `take` commits; its history is as well.
 * S3 Memory: at most `writes_max` batches wait for the disk, then `put` waits.
 */
import { mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { ByteWriter } from './bytes.ts'
import type { Environment, TakeSlotOptions } from './environment.ts'
import { checksum_bytes, rowKey, sealRow, type Rows, type Tables } from './rows.ts'
import { encodeTreeMeta, machinePrefix, treeMetaText } from './meta.ts'
import { folderError } from '../engine/folder.ts'

/** Batches of one load that wait for LMDB's write thread, which takes those that wait together into one transaction. */
const writes_max = 8
/** Rows removed in one transaction. */
const drop_rows = 2_000

export class Staged {
  readonly group: number
  readonly slot: number
  /** Folder of its history: whoever fills it syncs its files. */
  readonly historyDir: string
  readonly #environment: Environment
  readonly #writes: Promise<void>[] = []
  #failure: { readonly error: Error } | undefined
  #isEnded = false

  /** Use Environment.stage. */
  constructor(environment: Environment, group: number, slot: number, historyDir: string) {
    this.#environment = environment
    this.group = group
    this.slot = slot
    this.historyDir = historyDir
    try {
      mkdirSync(historyDir, { recursive: true, mode: 0o700 })
    } catch (error) {
      throw folderError(error, historyDir)
    }
  }

  get tables(): Tables {
    return this.#environment.tables
  }

  /** Run `puts` in a transaction; resolves when there is room for the next. @throws NineError as Environment.write, of an earlier batch too */
  async put(puts: () => void): Promise<void> {
    const write = this.#environment.load(puts)
    write.catch((error: Error) => (this.#failure ??= { error }))
    this.#writes.push(write)
    if (this.#writes.length >= writes_max) await this.#writes.shift()
    if (this.#failure !== undefined) throw this.#failure.error
  }

  /** Everything put is on stable storage. @throws NineError as put */
  async settle(): Promise<void> {
    await Promise.all(this.#writes.splice(0))
    if (this.#failure !== undefined) throw this.#failure.error
  }

  /**
   * Become the group's state. `meta`: rows of the state machine to set (undefined: take away) in the same transaction. S1
   * The caller sees to it that nothing is applied to the group's tree, and no checkpoint of it is under way, until this resolves.
   * @throws NineError as Environment.write: then the old state stands
   */
  async take(meta: Iterable<readonly [string, Uint8Array | undefined]>, options: TakeSlotOptions = {}): Promise<void> {
    await this.settle() // S2
    const rows = [...meta].map(([text, value]) => [machinePrefix + text, value] as const)
    if (options.tree !== undefined) {
      const writer = new ByteWriter(64)
      encodeTreeMeta(writer, options.tree)
      rows.push([treeMetaText, writer.written()])
    }
    const puts = (): void => {
      for (const [text, value] of rows) this.#putMeta(text, value)
    }
    await this.#environment.take(this, puts, options)
    this.#isEnded = true
  }

  /** Give it up: what was put goes in the background. */
  async drop(): Promise<void> {
    if (this.#isEnded) return
    this.#isEnded = true
    await Promise.allSettled(this.#writes.splice(0))
    this.#environment.abandon(this.slot)
  }

  #putMeta(text: string, value: Uint8Array | undefined): void {
    const key = rowKey(this.slot, -1, -1, text)
    if (value === undefined) {
      this.tables.meta.remove(key)
      return
    }
    const sealed = Buffer.allocUnsafeSlow(value.length + checksum_bytes)
    sealed.set(value)
    sealRow(key, sealed, 0, value.length)
    this.tables.meta.put(key, sealed)
  }
}

/** Take away every row of a slot, in steps, then its history. */
export async function dropSlot(environment: Environment, slot: number, historyDir: string, isStopped: () => boolean): Promise<boolean> {
  for (const rows of Object.values(environment.tables) as Rows[]) {
    for (let left = drop_rows; left === drop_rows;) {
      if (isStopped()) return false
      const keys = rows.getKeys({ start: rowKey(slot), end: rowKey(slot + 1), limit: drop_rows })
      left = keys.length
      if (left === 0) break
      await environment.write(() => {
        for (const key of keys) rows.remove(key)
      })
    }
  }
  await rm(historyDir, { recursive: true, force: true })
  return true
}

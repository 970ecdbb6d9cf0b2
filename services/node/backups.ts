/**
 * Backups of the stores of a node as streams, and receiving one into a file. The state goes to a file beside the data first, so that a
 * slow reader holds nothing up.
 */
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { rootPath } from '../../namespace/path.ts'
import { systemRandom } from '../../namespace/random.ts'
import { directory, stream } from '../../namespace/serve/entries.ts'
import type { Call, DirectoryEntry } from '../../namespace/serve/entries.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import { BlockReader } from '../../storage/snapshot/block-reader.ts'
import { streamBackup } from '../../storage/snapshot/backup.ts'
import { checkRegular, openSource, writeFileWhole } from '../../storage/snapshot/files.ts'
import type { SnapshotHeader } from '../../storage/snapshot/format.ts'
import { verifySnapshot } from '../../storage/snapshot/verify.ts'
import type { VerifiedSnapshot } from '../../storage/snapshot/verify.ts'

export { checkBackup, checkRestorable } from '../cluster/restores.ts'
export { restoreBackup } from '../../storage/snapshot/restore.ts'
export { verifySnapshot } from '../../storage/snapshot/verify.ts'

const prefix = 'out-backup-'

export class Backups {
  readonly #engine: Engine
  readonly #dir: string
  #running = 0

  /** Files of backups that an earlier life of the node did not end are removed. */
  constructor(engine: Engine) {
    this.#engine = engine
    this.#dir = join(engine.dir, 'snapshots')
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
    for (const name of readdirSync(this.#dir)) if (name.startsWith(prefix)) rmSync(join(this.#dir, name), { force: true })
  }

  /**
   * The bytes of a backup of a store, as of now: what anybody was told is in it, whichever node of a cluster is asked.
   * @throws NineError `not_found`, `overloaded` (limits.backups_max), as the engine's save
   */
  async *stream(name: string, { context, signal }: Pick<Call, 'context' | 'signal'>): AsyncIterable<Uint8Array> {
    if (this.#running >= limits.backups_max) {
      throw new NineError({ kind: 'overloaded', op: 'node.backup', message: `a node makes at most ${limits.backups_max} backups at once` })
    }
    this.#running++
    try {
      await this.#engine.store(name).stat({ ...context, signal }, rootPath)
      const spool = join(this.#dir, `${prefix}${systemRandom.id()}`)
      yield* streamBackup(await this.#engine.backupParts(name), { spool, signal })
    } finally {
      this.#running--
    }
  }

  /** A stream for each store. @param check what it throws refuses the caller */
  directory(check: (call: Call) => void): DirectoryEntry {
    return directory({
      list: () => this.#engine.stores().map(({ name }) => name),
      lookup: (_call, name) => (this.#engine.hasStore(name) ? stream((call) => (check(call), this.stream(name, call))) : undefined),
    })
  }
}

/** How a backup begins: of what it is. @throws NineError as verifySnapshot */
export async function readHeader(path: string): Promise<SnapshotHeader> {
  const source = await openSource(path)
  return new BlockReader(source).begin().finally(() => source.close())
}

export interface ReceiveOptions {
  /** Replace the file. */
  readonly force?: boolean | undefined
  /** Bytes received so far. */
  readonly progress?: ((bytes: number) => void) | undefined
}

/**
 * Write a backup to a file, which has its name only when all of it came and its hashes held.
 * @throws NineError `exists` without `force`, `is_directory`, `invalid` (no regular file), `not_found` (its folder), `corrupt`, as writeFileWhole, and what the parts throw
 */
export async function receiveBackup(
  parts: AsyncIterable<Uint8Array>,
  path: string,
  { force = false, progress }: ReceiveOptions = {},
): Promise<VerifiedSnapshot> {
  const checkFree = (): void => {
    const there = statSync(path, { throwIfNoEntry: false })
    if (there === undefined) return
    checkRegular(there, path)
    if (!force) throw new NineError({ kind: 'exists', op: 'node.backup', path, message: `there is a file ${path}: --force replaces it` })
  }
  const folder = dirname(path)
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new NineError({ kind: 'not_found', op: 'node.backup', path: folder, message: `there is no folder ${folder}` })
  }
  checkFree()
  let verified: VerifiedSnapshot | undefined
  let bytes = 0
  const write = async (target: { write(part: Uint8Array): Promise<void> }): Promise<void> => {
    for await (const part of parts) {
      await target.write(part)
      progress?.((bytes += part.length))
    }
  }
  const check = async (part: string): Promise<void> => {
    verified = await verifySnapshot(part)
    checkFree() // It may have come meanwhile.
  }
  await writeFileWhole(path, write, { check })
  return verified!
}

/** Backups of the stores of a node, as streams. The state goes to a file beside the data first, so that a slow reader holds nothing up. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { systemRandom } from '../../namespace/random.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import { streamBackup } from '../../storage/snapshot/backup.ts'

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

  /** The bytes of a backup of a store, as of when it begins. @throws NineError `not_found`, `overloaded` (limits.backups_max), as the engine's save */
  async *stream(store: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    if (this.#running >= limits.backups_max) {
      throw new NineError({ kind: 'overloaded', op: 'node.backup', message: `a node makes at most ${limits.backups_max} backups at once` })
    }
    this.#running++
    try {
      const spool = join(this.#dir, `${prefix}${systemRandom.id()}`)
      yield* streamBackup(await this.#engine.backupParts(store), { spool, signal })
    } finally {
      this.#running--
    }
  }
}

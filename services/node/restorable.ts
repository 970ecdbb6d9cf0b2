/** The stores of a node, as what backups are restored into while it serves. */
import { NineError } from '../../namespace/errors.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import type { RestorableStore } from '../cluster/restores.ts'

/** @throws NineError `not_found` */
export function restorableStore(engine: Engine, name: string): RestorableStore {
  const row = engine.rows().find((known) => known.name === name)
  if (row === undefined) throw new NineError({ kind: 'not_found', op: 'node.restore', message: `this node has no store ${name}` })
  return {
    id: row.id,
    owner: row.owner,
    restores: () => engine.restores(name).all,
    tryBackup: (backup, source, signal) => engine.tryBackup(name, backup, source, signal),
    restore: (context, command) => engine.restore(context, name, command),
    group: () => engine.member?.replica(row.group)?.group.status(),
  }
}

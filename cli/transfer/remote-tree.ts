/** A tree of the namespace as a stream of the same entries as a local folder's. */
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { Stat } from '../../namespace/stat.ts'
import type { Client } from '../../sdk/client-api.ts'
import type { TreeEntry, Unfit } from './local-tree.ts'

/**
 * A list that takes so long that the store forgets the revision it showed goes on after its last entry at the newest
 * one: a transfer compares entry by entry and needs no single moment.
 */
export async function* remoteTree(client: Client, root: string, onUnfit: (unfit: Unfit) => void): AsyncGenerator<TreeEntry, void> {
  let after: string | undefined
  for (let isComplete = false; !isComplete;) {
    try {
      for await (const stat of client.list(root, { recursive: true, after })) {
        const entry = await entryOf(client, root, stat)
        if (entry === undefined) onUnfit({ path: stat.name, why: `it is a ${stat.kind} file, which has no value to copy` })
        else yield entry
        after = stat.name
      }
      isComplete = true
    } catch (error) {
      if (!isNineError(error, 'compacted')) throw error
    }
  }
}

async function entryOf(client: Client, root: string, stat: Stat): Promise<TreeEntry | undefined> {
  const { name: path, mode, modifiedAt } = stat
  if (stat.kind === 'directory') return { path, kind: 'directory', size: 0, mode, modifiedAt }
  if (stat.kind === 'symlink') {
    const target = stat.target ?? (await client.readlink(`${root}/${path}`))
    return { path, kind: 'symlink', size: Buffer.byteLength(target), mode, modifiedAt, target }
  }
  if (stat.kind !== 'file') return undefined
  if (stat.size === undefined) throw new NineError({ kind: 'internal', op: 'cli.transfer', path, message: 'a file without a size' })
  return { path, kind: 'file', size: stat.size, mode, modifiedAt }
}

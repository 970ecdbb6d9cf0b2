/** Whole trees as nodes hold them, to be compared. */
import { createHash } from 'node:crypto'
import type { Client } from '../../sdk/client-api.ts'
import type { Position } from '../../namespace/position.ts'

/** Position that shows all that was acknowledged. */
export async function positionNow(client: Client, path: string): Promise<Position> {
  return (await client.listAll(path, { limit: 1, timeoutMs: 20_000 })).position
}

/** A line for every node below `path` as of a position, from this node's own state: names, identities, versions, values. */
export async function treeAt(client: Client, path: string, at: Position): Promise<string[]> {
  const stale = { consistency: 'stale', minPosition: at, at, timeoutMs: 30_000 } as const
  const lines: string[] = []
  const look = async (folder: string): Promise<void> => {
    const { entries } = await client.listAll(folder, stale)
    for (const { name, kind, qid, revision, modifiedAt, size } of entries) {
      const child = `${folder}/${name}`
      const hash =
        kind === 'file'
          ? createHash('sha256')
              .update(await client.read(child, stale))
              .digest('hex')
          : ''
      lines.push([child, kind, qid.path, qid.version, revision, modifiedAt, size, hash].join(' '))
      if (kind === 'directory') await look(child)
    }
  }
  await look(path)
  return lines.sort()
}

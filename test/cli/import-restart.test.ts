/** An import whose node goes away and comes back, also in the middle of files too large for one write. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { diffTrees } from '../../cli/transfer/diff.ts'
import { importTree } from '../../cli/transfer/import.ts'
import { silentProgress } from '../../cli/transfer/progress.ts'
import { failure, TestNode } from '../node/running.ts'

const files = 60

it('goes on where it was, and ends equal', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'ninefold-import-'))
  const node = await TestNode.start()
  try {
    for (let i = 0; i < files; i++) await writeFile(join(dir, `file-${i}`), Buffer.alloc(2_000_000, `${i} `))
    const { client } = await node.connect()
    let done = 0
    let restarted: Promise<void> | undefined
    const restart = async (): Promise<void> => node.start(await node.stop())
    const progress = { add: () => void (++done === 5 && (restarted = restart())), stop: () => undefined }
    const report = await importTree(client, dir, '/data/large', { inFlight: 8, removeExtra: false, progress })
    await restarted
    expect(report).toMatchObject({ files, bytes: files * 2_000_000 })
    const options = { inFlight: 4, progress: silentProgress }
    const diff = await diffTrees(client, dir, '/data/large', options, () => undefined)
    expect(diff).toMatchObject({ compared: files, differences: 0 })
  } finally {
    await node.close()
    await rm(dir, { recursive: true, force: true })
  }
}, 120_000)

it('a handle whose connection is lost says which file it was', async () => {
  const node = await TestNode.start()
  try {
    const { client } = await node.connect()
    const handle = await client.open('/data/opened', { write: true, create: true })
    await handle.writeAt(0, Buffer.from('staged'))
    await node.start(await node.stop())
    expect(await failure(handle.writeAt(6, Buffer.from('more')), 'unavailable')).toMatchObject({ path: '/data/opened' })
  } finally {
    await node.close()
  }
}, 60_000)

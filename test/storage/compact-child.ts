/**
 * A process that fills a database, empties most of it and writes it anew, until it is killed there (NINE_FAILPOINTS) or, with `last`,
 * right after a checkpoint that followed. Run with: folder, what is the last. Says what it has in the tree before that.
 */
import { join } from 'node:path'
import { rootIno } from '../../storage/model.ts'
import { openEnvironment } from '../../storage/tree/environment.ts'
import { inline, record, revisionOf } from './tree-model.ts'

const [, , dir, last] = process.argv
const environment = await openEnvironment({ dir: join(dir!, 'tree'), historyDir: join(dir!, 'history') })
const tree = await environment.tree(1, { owner: 'ann' })
let revision = tree.revision

async function write(count: number, text: string): Promise<void> {
  revision++
  const transaction = tree.begin(revision)
  for (let i = 0; i < count; i++) {
    const name = `f${i}`
    const ino = transaction.child(rootIno, name) ?? transaction.nextIno()
    transaction.put(record({ ino, since: revision, name, content: inline(text.repeat(300)) }))
    transaction.link(rootIno, name, ino)
  }
  tree.history.append(revisionOf(revision, transaction.commit()))
  await tree.checkpoint({ appliedIndex: revision, revision, meta: [] })
  process.stdout.write(`${revision} ${count} ${text}\n`)
}

await write(2_000, 'first')
await environment.write(() => {
  for (let i = 0; i < 20_000; i++) environment.tables.contents.put({ group: 9, a: i, b: -1, c: -1, text: '' }, Buffer.alloc(900, i))
})
await environment.write(() => {
  for (let i = 0; i < 20_000; i++) environment.tables.contents.remove({ group: 9, a: i, b: -1, c: -1, text: '' })
})
await write(1_000, 'second')
await environment.compact()
if (last === 'checkpoint') {
  await write(1_500, 'third')
  process.kill(process.pid, 'SIGKILL')
}
process.stdout.write('never here\n')

/**
 * A process that writes and checkpoints until it is killed. Run with: folder, first revision.
 * Before each checkpoint it says `begin REVISION`, after it `done REVISION`.
 */
import { join } from 'node:path'
import { rootIno } from '../../storage/model.ts'
import { openEnvironment } from '../../storage/tree/environment.ts'
import { inline, record, revisionOf } from './tree-model.ts'

const dir = process.argv[2]!
const environment = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history') })
const tree = await environment.tree(1, { owner: 'ann' })
let { revision } = tree.meta()
const files = 400
for (;;) {
  for (let i = 0; i < files; i++) {
    revision++
    const transaction = tree.begin(revision)
    const name = `f${revision % files}`
    const ino = transaction.child(rootIno, name) ?? transaction.nextIno()
    transaction.put(record({ ino, since: revision, name, content: inline(`${revision}`.repeat(200)) }))
    transaction.link(rootIno, name, ino)
    tree.history.append(revisionOf(revision, transaction.commit()))
  }
  process.stdout.write(`begin ${revision}\n`)
  await tree.checkpoint({ appliedIndex: revision, revision, meta: [['at', Buffer.from(String(revision))]] })
  process.stdout.write(`done ${revision}\n`)
}

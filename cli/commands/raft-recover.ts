/** raft recover: a new cluster from the folder of a node that is left, when the majority of its own is lost for good. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { NineError } from '../../namespace/errors.ts'
import { systemRandom } from '../../namespace/random.ts'
import { defaultDataDir } from '../../services/node/defaults.ts'
import { standardOutput } from '../output.ts'
import { printable } from '../render/long.ts'
import type { GlobalOptions } from './command.ts'

interface RecoverFlags extends GlobalOptions {
  readonly data: string
  readonly force?: boolean
}

export function recoverCommand(raft: Command): void {
  raft
    .command('recover')
    .description('begin a new cluster with the folder of a node that is left; no node may have the folder open')
    .option('--data <dir>', 'the data folder (or NINE_DATA)', defaultDataDir())
    .option('--force', 'do it; without, it is only said what would be done')
    .addHelpText(
      'after',
      `
For when more nodes of a cluster than it can do without are lost for good: while they may come back, start them instead.
The new cluster has all that this node's folder has; what only the others had is lost, perhaps also changes that were acknowledged.
Positions from before are answered with compacted. Take the folder of the node that was up last, or, with several left, the one
whose applied is highest in nine raft status. Afterwards start that node, and the others with empty folders.

Example:
  nine raft recover --data ./n2 --force
  nine up --node n2 --peers n1=127.0.0.1:7101,n2=127.0.0.1:7102,n3=127.0.0.1:7103 --token-file cluster.token --data ./n2`,
    )
    .action(recover)
}

async function recover(this: Command): Promise<void> {
  const { data, force = false, json } = this.optsWithGlobals<RecoverFlags>()
  const output = standardOutput(json === true)
  const { recoverFolder } = await import('../../services/node/recovery.ts')
  const dir = resolve(data)
  const { before, file, stores } = await recoverFolder(dir, systemRandom, force)
  const { cluster, member, name, peers } = file
  if (!force) {
    const message =
      `${dir} is of ${name} of cluster ${before.cluster} and holds ${stores.join(', ')}; a new cluster is to begin with it, ` +
      `and it can never go back to its own, nor can what only the others have be had again: add --force if they are lost for good`
    throw new NineError({ kind: 'invalid', op: 'cli.recover', message })
  }
  if (output.isJson) return output.json({ data: dir, node: name, member, cluster, before: before.cluster, stores })
  await output.line(
    `${printable(dir)}: ${printable(name)} begins cluster ${cluster} when it is started, with ${stores.map(printable).join(', ')}`,
  )
  const list = peers.map((peer) => `${peer.name}=${peer.address}`).join(',')
  await output.line(`start it with nine up --node ${printable(name)} --peers ${printable(list)}, and the others with empty folders`)
}

/** raft: the groups of a cluster: who is in them, who leads, and changing that. All of it goes through the files below /raft. */
import { Option } from 'commander'
import type { Command } from 'commander'
import { NineError } from '../../namespace/errors.ts'
import { parseName } from '../../namespace/path.ts'
import { defaultDataDir } from '../../services/node/defaults.ts'
import { printable } from '../render/long.ts'
import { backup, restore } from './backup.ts'
import type { BackupFlags } from './backup.ts'
import { action } from './command.ts'
import type { Run } from './command.ts'

interface StoreFlag {
  /** Two names of one thing: each store is a group. */
  readonly store?: string
  readonly group?: string
}

function storeOf({ store, group }: StoreFlag): string {
  return group ?? store ?? 'data'
}

export function raftCommands(program: Command): void {
  const raft = program.command('raft').description('the nodes of a cluster, and who leads its stores')
  const command = (name: string, description: string): Command =>
    raft
      .command(name)
      .description(description)
      .option('--store <name>', 'store, each of which is a group of its own (default data)')
      .addOption(new Option('--group <name>', 'the same').hideHelp())

  command('status', 'show how the group of a store stands on this node')
    .addHelpText('after', '\nExamples:\n  nine raft status\n  nine raft status --store usr --json\n  nine cat /raft/data/status')
    .action(action(status))
  command('members', 'show the nodes in the group of a store: role, leader, how far behind, version')
    .addHelpText('after', '\nExamples:\n  nine raft members\n  nine cat /raft/data/members')
    .action(action(members))
  raft
    .command('add')
    .description('let a node join the cluster; it is started afterwards, with an empty folder')
    .argument('<node>', 'NAME=HOST:PORT, where its peer listener will be')
    .option('--learner', 'it holds the stores and does not vote, until it is promoted')
    .addHelpText(
      'after',
      '\nExample:\n  nine raft add n4=127.0.0.1:7104\n  nine up --node n4 --peers n1=127.0.0.1:7101,…,n4=127.0.0.1:7104 --token-file cluster.token --data ./n4',
    )
    .action(
      action((run, node: string, { learner }: { readonly learner?: boolean }) =>
        tell(run, 'data', ['add', node, learner === true ? 'learner' : '']),
      ),
    )
  raft
    .command('remove')
    .description('take a node out of the cluster; it stops by itself')
    .argument('<name>', 'name of the node')
    .option('--force', 'also where a store could not go on until others are back')
    .addHelpText(
      'after',
      '\nA node whose disk was lost need not be removed: started with an empty folder it takes its own place.\n\nExample:\n  nine raft remove n2',
    )
    .action(
      action((run, name: string, { force }: { readonly force?: boolean }) =>
        tell(run, 'data', ['remove', name, force === true ? 'force' : '']),
      ),
    )
  raft
    .command('promote')
    .description('let a learner vote')
    .argument('<name>', 'name of the node')
    .action(action((run, name: string) => tell(run, 'data', ['promote', name])))
  command('transfer', 'let another node lead the group of a store; done when it leads')
    .argument('<name>', 'name of the node')
    .addHelpText('after', '\nExamples:\n  nine raft transfer n3\n  nine raft transfer n3 --store usr')
    .action(action((run, name: string, flags: StoreFlag) => tell(run, storeOf(flags), ['transfer', name])))
  command('snapshot', 'write a backup of a store to a file, or, without one, save on this node what is applied')
    .argument('[file]', 'file on this machine; made whole or not at all')
    .option('--force', 'replace the file')
    .addHelpText('after', '\nExamples:\n  nine raft snapshot data-monday.backup\n  nine raft snapshot --store usr usr.backup')
    .action(
      action((run, file: string | undefined, flags: StoreFlag & BackupFlags) =>
        file === undefined ? tell(run, storeOf(flags), ['snapshot']) : backup(run, storeOf(flags), file, flags),
      ),
    )
  raft
    .command('restore')
    .description('make a store of a data folder what a backup says; no node may have the folder open')
    .argument('<file>', 'what nine raft snapshot or nine backup wrote')
    .option('--data <dir>', 'the data folder; made when missing (or NINE_DATA)', defaultDataDir())
    .option('--store <name>', 'name of the store; default the one it had')
    .option('--force', 'replace a store that has changes of its own')
    .addHelpText(
      'after',
      '\nThe folder then founds a cluster: start it as one node, and the others with empty folders.\n\nExample:\n  nine raft restore data-monday.backup --data ./n1-new',
    )
    .action(restore)
  command('defrag', 'take away on this node what nothing shows any more, now').action(
    action((run, flags: StoreFlag) => tell(run, storeOf(flags), ['defrag'])),
  )
}

/** A line to the store's ctl file: an error comes back as it is. */
async function tell({ session }: Run, store: string, words: readonly string[]): Promise<void> {
  const said = words.filter((word) => word !== '')
  for (const word of said) {
    if (/\s/.test(word)) throw new NineError({ kind: 'invalid', op: 'cli.raft', message: `${JSON.stringify(word)} is no single word` })
  }
  await session.client.write(`${directoryOf(store)}/ctl`, `${said.join(' ')}\n`)
}

function directoryOf(store: string): string {
  return `/raft/${parseName(store, 'cli.raft')}`
}

/** What of /raft/STORE/status is shown. */
interface Status {
  readonly store: string
  readonly cluster?: string
  readonly node: string
  readonly term: number
  readonly role: string
  readonly leader: string | null
  readonly commit: number
  readonly applied: number
  readonly last?: number
  readonly isReady: boolean
  /** Why it does nothing any more. */
  readonly failure?: string
  readonly configuration: { readonly voters: string[]; readonly outgoing: string[]; readonly learners: string[] }
}

async function status({ session, output }: Run, flags: StoreFlag): Promise<void> {
  const found = JSON.parse(await session.client.readText(`${directoryOf(storeOf(flags))}/status`)) as Status
  if (output.isJson) return output.json(found)
  const { voters, outgoing, learners } = found.configuration
  const rows: [string, string][] = [
    ['store', found.store],
    ['cluster', found.cluster ?? 'none: this node is alone'],
    ['node', `${found.node}, ${found.role} of term ${found.term}`],
    ...(found.failure === undefined ? [] : ([['failure', found.failure]] as [string, string][])),
    ['leader', found.leader ?? 'none'],
    ['log', `${found.applied} applied, ${found.commit} committed${found.last === undefined ? '' : `, ${found.last} written`}`],
    ['voters', voters.join(', ')],
    ...(outgoing.length === 0 ? [] : ([['before', `${outgoing.join(', ')} (the change is under way)`]] as [string, string][])),
    ...(learners.length === 0 ? [] : ([['learners', learners.join(', ')]] as [string, string][])),
  ]
  for (const [name, text] of rows) await output.line(`${name.padEnd(9)}${printable(text)}`)
}

interface MemberRow {
  readonly node: string
  readonly address?: string
  readonly member?: string
  readonly role: string
  readonly isLeader: boolean
  readonly isSelf: boolean
  readonly isActive?: boolean
  readonly behind?: number
  readonly version?: string
  readonly protocol?: number
}

async function members({ session, output }: Run, flags: StoreFlag): Promise<void> {
  const text = await session.client.readText(`${directoryOf(storeOf(flags))}/members`)
  const rows = text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as MemberRow) // prettier-ignore
  const cells: string[][] = [['NODE', 'ROLE', 'HEARD', 'BEHIND', 'VERSION', 'ADDRESS', 'MEMBER']]
  for (const row of rows) {
    if (output.isJson) await output.json(row)
    const heard = row.isActive === undefined ? '?' : row.isActive ? 'yes' : 'no'
    const role = row.isLeader ? `${row.role}, leads` : row.role
    const name = row.isSelf ? `${row.node} *` : row.node
    cells.push([name, role, heard, String(row.behind ?? '?'), row.version ?? '?', row.address ?? '-', row.member ?? '-'])
  }
  if (output.isJson) return
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)))
  for (const line of cells)
    await output.line(
      printable(
        line
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join('  ')
          .trimEnd(),
      ),
    )
}

/** raft: the groups of a cluster: who is in them, who leads, and changing that. All of it goes through the files below /raft. */
import { Option } from 'commander'
import type { Command } from 'commander'
import { NineError } from '../../namespace/errors.ts'
import { parseName } from '../../namespace/path.ts'
import { printable } from '../render/long.ts'
import { exitCodeOf } from '../exit-codes.ts'
import { formatBytes, terminalProgress, type Progress } from '../transfer/progress.ts'
import { backup, restore } from './backup.ts'
import type { BackupFlags } from './backup.ts'
import { action } from './command.ts'
import type { Run } from './command.ts'
import { recoverCommand } from './raft-recover.ts'
import { restoreRunning } from './restore.ts'
import type { RestoreRunningFlags } from './restore.ts'

interface StoreFlag {
  /** Two names of one thing: each store is a group. */
  readonly store?: string
  readonly group?: string
}

function storeOf({ store, group }: StoreFlag): string {
  return group ?? store ?? 'data'
}

export function raftCommands(program: Command): void {
  const raft = program
    .command('raft')
    .description('the nodes of a cluster, and who leads its stores')
    .addHelpText('after', () => raftHelp)
  const command = (name: string, description: string): Command =>
    raft
      .command(name)
      .description(description)
      .option('--store <name>', 'store, each of which is a group of its own (default data)')
      .addOption(new Option('--group <name>', 'the same').hideHelp())

  command('status', 'show how the group of a store stands on this node').addHelpText('after', statusHelp).action(action(status))
  command('members', 'show the nodes in the group of a store: role, leader, how far behind, version')
    .addHelpText('after', membersHelp)
    .action(action(members))
  raft
    .command('add')
    .description('let a node join the cluster; it is started afterwards, with an empty folder')
    .argument('<node>', 'NAME=HOST:PORT, where its peer listener will be')
    .option('--learner', 'it holds the stores and does not vote, until it is promoted')
    .addHelpText(
      'after',
      '\nExample:\n  nine raft add n4=127.0.0.1:7104\n  nine up --node n4 --peers n1=127.0.0.1:7101,n2=127.0.0.1:7102,n3=127.0.0.1:7103,n4=127.0.0.1:7104 --token-file cluster.token --data ./n4',
    )
    .action(
      action(async (run, peer: string, { learner = false }: { readonly learner?: boolean }) => {
        await tell(run, 'data', ['add', peer, learner ? 'learner' : ''])
        const [node = '', address = ''] = peer.split('=')
        const role = learner ? 'learner' : 'voter'
        await done(run, { node, address, role }, `${node} may join as a ${role}, at ${address}: start it with an empty folder`)
      }),
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
      action(async (run, node: string, { force }: { readonly force?: boolean }) => {
        await tell(run, 'data', ['remove', node, force === true ? 'force' : ''])
        await done(run, { node, role: null }, `${node} belongs to the cluster no more`)
      }),
    )
  raft
    .command('promote')
    .description('let a learner vote')
    .argument('<name>', 'name of the node')
    .addHelpText('after', '\nDone when it votes in the groups of all stores.\n\nExample:\n  nine raft promote n4')
    .action(
      action(async (run, node: string) => {
        await tell(run, 'data', ['promote', node])
        await done(run, { node, role: 'voter' }, `${node} votes in the groups of all stores`)
      }),
    )
  command('transfer', 'let another node lead the group of a store; done when it leads')
    .argument('<name>', 'name of the node')
    .addHelpText(
      'after',
      '\nThe node has to be a voter that the leader hears.\n\nExamples:\n  nine raft transfer n3\n  nine raft transfer n3 --store usr',
    )
    .action(
      action(async (run, node: string, flags: StoreFlag) => {
        const store = storeOf(flags)
        await tell(run, store, ['transfer', node])
        await done(run, { store, leader: node }, `${node} leads store ${store}`)
      }),
    )
  command('snapshot', 'write a backup of a store to a file, or, without one, save on this node what is applied')
    .argument('[file]', 'file on this machine; made whole or not at all')
    .option('--force', 'replace the file')
    .addHelpText(
      'after',
      '\nWith a file it is nine backup. Without one the log can be cut, and the node starts faster.\n\nExamples:\n  nine raft snapshot data-monday.backup\n  nine raft snapshot --store usr usr.backup',
    )
    .action(
      action((run, file: string | undefined, flags: StoreFlag & BackupFlags) =>
        file === undefined ? save(run, storeOf(flags)) : backup(run, storeOf(flags), file, flags),
      ),
    )
  command('restore', 'make a store what a backup says while its nodes serve, or, with --data, one of a folder that no node has open')
    .argument('<file>', 'what nine raft snapshot or nine backup wrote')
    .option('--yes', 'do not ask')
    .option('--data <dir>', 'of this data folder, which is made when missing; it founds a cluster afterwards')
    .option('--force', 'also a backup of a store with another identity; of a folder: replace a store that has changes of its own')
    .addHelpText(
      'after',
      `
All of the file is checked before anything changes. Then every node becomes what it says, at one place among the changes of the store;
positions and watches from before end with compacted, and what a client asks again is not done twice. The store sys is restored with --data
only. With --data the store has the name it had, unless --store says otherwise; start the folder as one node, the others with empty folders.

Examples:
  nine raft restore data-monday.backup
  nine raft restore usr.backup --store usr --yes
  nine raft restore data-monday.backup --data ./n1-new`,
    )
    .action(restoreEither)
  recoverCommand(raft)
  command('defrag', 'take away on this node what nothing shows any more, and give room on the disk back, now')
    .addHelpText(
      'after',
      '\nThe node goes on serving. Needs room for what its stores hold, which is one database whatever --store is.\n\nExamples:\n  nine raft defrag\n  nine raft defrag --json',
    )
    .action(action(defrag))
}

const raftHelp = `
Each store is a group of its own (--store; data where it is not given). Commands go to the node of --addr, which asks the one that leads.
add, remove, promote, transfer and restore answer when it is done; when --timeout (60s, none of restore) is over first, they end with deadline
(exit code ${exitCodeOf('deadline')}), and what was begun goes on. Without a majority they end with unavailable (${exitCodeOf('unavailable')}); status and members answer all the same.
What is wrong with the request is invalid (${exitCodeOf('invalid')}), a node or store there is none of not_found (${exitCodeOf('not_found')}); the other codes: nine --help.`

const membersHelp = `
One row a node; * is the one that answers. With --json one object a line.
  ROLE      voter; learner, which holds the store and does not vote; leaving; named: let in, and has not joined yet
  HEARD     whether the leader hears it; where nobody leads, whether the node that answers does
  BEHIND    entries of the log that it lacks of those that the leader has

Examples:
  nine raft members
  nine cat /raft/data/members`

const statusHelp = `
What /raft/STORE/status and --json say, of this node:
  store, cluster, node, member  the store; id of the cluster; this node's name and member id, which is of this data folder alone
  group                         number of the store's group, the same on all nodes
  role, term                    leader, follower, candidate or pre_candidate (it looks for a leader), in this term; stopped: see failure
  leader                        member id of who leads, as far as this node knows; null: nobody does
  reach                         where nobody leads: how many of the members this node reaches, and which not
  isReady                       whether changes and linearizable reads are done through this node now; stale reads always are
  configuration                 voters; learners, who hold the store and do not vote; while members change, outgoing: the voters before,
                                and demoted: those who stay as learners
  commit, applied               entries of the log up to which a majority agreed, and which this node's files show
  first, last                   entries of the log that this node has in memory
  snapshot                      entry up to which a member far behind is sent the state as a whole
  isResting                     nothing is under way, so that nobody sends heartbeats
  failure                       why this node has stopped changing anything
  filling                       how far this node is with what others give it of the store, where it lacks some
  trouble                       what keeps the store on this node from going on, and is tried again

Examples:
  nine raft status
  nine raft status --store usr --json
  nine cat /raft/data/status`

interface RestoreEitherFlags extends StoreFlag {
  readonly data?: string
}

async function restoreEither(this: Command, ...args: unknown[]): Promise<void> {
  const { data, store, group } = this.opts<RestoreEitherFlags>()
  if (data !== undefined) return restore.call(this, args[0] as string)
  const running = action((run, file: string, flags: RestoreRunningFlags) => restoreRunning(run, file, { ...flags, store: group ?? store }))
  await running.call(this, ...args)
}

/** A line to the store's ctl file: an error comes back as it is. */
async function tell({ session }: Run, store: string, words: readonly string[]): Promise<void> {
  const said = words.filter((word) => word !== '')
  for (const word of said) {
    if (/\s/.test(word)) throw new NineError({ kind: 'invalid', op: 'cli.raft', message: `${JSON.stringify(word)} is no single word` })
  }
  await session.client.write(`${directoryOf(store)}/ctl`, `${said.join(' ')}\n`)
}

/** What a verb did: a line, or with --json the same as one object. */
async function done({ output }: Run, value: object, text: string): Promise<void> {
  if (output.isJson) await output.json(value)
  else await output.line(printable(text))
}

async function save(run: Run, store: string): Promise<void> {
  const { node, applied } = await statusOf(run, store)
  await tell(run, store, ['snapshot'])
  await done(run, { store, node, applied }, `${node} has saved store ${store} up to entry ${applied} or later`)
}

interface DefragStep {
  readonly step: 'save' | 'collect' | 'copy' | 'done'
  readonly rows?: number
  readonly of?: number
  readonly before?: number
  readonly after?: number
}

async function defrag(run: Run, flags: StoreFlag): Promise<void> {
  const { session, timeoutMs = Infinity } = run
  let progress: Progress | undefined
  let last: DefragStep | undefined
  let rows = 0
  let text = ''
  try {
    for await (const bytes of session.client.readStream(`${directoryOf(storeOf(flags))}/defrag`, { timeoutMs })) {
      text += Buffer.from(bytes).toString()
      const lines = text.split('\n')
      text = lines.pop()!
      for (const line of lines) {
        last = JSON.parse(line) as DefragStep
        if (last.step !== 'copy') continue
        progress ??= terminalProgress('defrag', last.of)
        progress.add(last.rows! - rows, 0)
        rows = last.rows!
      }
    }
  } finally {
    progress?.stop()
  }
  const { before = 0, after = 0 } = last ?? {}
  await done(run, { before, after }, `the database of this node took ${formatBytes(before)} and takes ${formatBytes(after)}`)
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
  /** Where nobody leads: what of the group it reaches. */
  readonly reach?: string
  /** Why it does nothing any more. */
  readonly failure?: string
  /** What keeps it from going on, and is tried again. */
  readonly trouble?: string
  readonly configuration: { readonly voters: string[]; readonly outgoing: string[]; readonly learners: string[] }
}

async function statusOf({ session }: Run, store: string): Promise<Status> {
  return JSON.parse(await session.client.readText(`${directoryOf(store)}/status`)) as Status
}

async function status(run: Run, flags: StoreFlag): Promise<void> {
  const { output } = run
  const found = await statusOf(run, storeOf(flags))
  if (output.isJson) return output.json(found)
  const { voters, outgoing, learners } = found.configuration
  const rows: [string, string][] = [
    ['store', found.store],
    ['cluster', found.cluster ?? 'none: this node is alone'],
    ['node', `${found.node}, ${found.role} of term ${found.term}`],
    ...(found.failure === undefined ? [] : ([['failure', found.failure]] as [string, string][])),
    ...(found.trouble === undefined ? [] : ([['trouble', found.trouble]] as [string, string][])),
    ['leader', found.leader ?? (found.reach === undefined ? 'none' : `none: ${found.reach}`)],
    ['ready', found.isReady ? 'yes' : 'no: changes and linearizable reads wait, and are refused after a while'],
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
  if (!rows.some(({ isLeader }) => isLeader)) {
    const self = rows.find(({ isSelf }) => isSelf)?.node ?? 'the node'
    await output.line(printable(`store ${storeOf(flags)} has no leader; HEARD is what ${self} hears`))
  }
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

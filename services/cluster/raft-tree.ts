/**
 * /raft: the groups of this node as files, for its owner. One directory a store:
 *
 *   status     how its group stands on this node, as JSON
 *   members    who is in it, one JSON object a line
 *   ctl        add NAME=HOST:PORT [learner] · remove NAME [force] · promote NAME · transfer NAME · snapshot · defrag ·
 *              restore BACKUP [force]
 *   snapshot   a backup of the store, as it is read
 *   restores   what it was restored from, one JSON object a line
 *   defrag     does it as it is read, one JSON object a line: what it is at, and at last the bytes of the database before and after
 *
 * `snapshot` as a command brings what is applied to stable storage, so that the log may be cut; `defrag` takes away what nothing shows any more,
 * and gives room on the disk back. Both are about this node alone, the latter about all its stores.
 * `restore` makes the store what a backup says that was written to /sys/restore/BACKUP; the nodes serve on.
 */
import { NineError } from '../../namespace/errors.ts'
import type { Channel } from '../../namespace/mount-table.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import { computed, ctl, directory, stream } from '../../namespace/serve/entries.ts'
import type { Call, CtlVerb, Table } from '../../namespace/serve/entries.ts'
import { serveTable } from '../../namespace/serve/table-server.ts'
import { operationError } from './operations.ts'
import type { MemberRow, Operations } from './operations.ts'
import { parsePeer } from './peer-list.ts'
import type { Restores } from './restores.ts'

export interface RaftTreeParts {
  readonly owner: Principal
  /** Name of this node. */
  readonly name: string
  /** Of the program. */
  readonly version: string
  /** undefined: the node is alone. */
  readonly operations: Operations | undefined
  readonly stores: () => readonly { readonly name: string; readonly appliedIndex: number; readonly trouble?: string | undefined }[]
  /** Why this node changes nothing any more. */
  readonly failure: () => string | undefined
  readonly save: () => Promise<unknown>
  /** @returns what it did */
  readonly defrag: (progress: (step: object) => void) => Promise<object>
  readonly restores: Pick<Restores, 'restore' | 'list'>
  /** The bytes of a backup. */
  readonly backup: (store: string, call: Call) => AsyncIterable<Uint8Array>
}

/** To be mounted at /raft. */
export function raftTree(parts: RaftTreeParts): Channel {
  const stores = directory({
    list: () => parts.stores().map(({ name }) => name),
    lookup: ({ path }, name) => {
      if (parts.stores().some((store) => store.name === name)) return groupTable(parts, name)
      throw new NineError({ kind: 'not_found', op: 'cluster.raft', path, message: `this node has no store ${name}` })
    },
  })
  return { server: serveTable({ stores }), path: parsePath('/stores') }
}

function groupTable(parts: RaftTreeParts, store: string): Table {
  const { owner, operations } = parts
  const owned =
    <A extends unknown[], R>(run: (call: Call, ...rest: A) => R) =>
    (call: Call, ...rest: A): R => (checkOwner(call, owner), run(call, ...rest))
  return {
    status: computed(owned(() => withFailure(parts, withTrouble(parts, store, operations?.status(store) ?? aloneStatus(parts, store))))),
    members: computed(owned(async () => lines((await operations?.members(store)) ?? [aloneMember(parts)]))),
    ctl: ctl(Object.fromEntries(Object.entries(verbsOf(parts, store)).map(([verb, run]) => [verb, owned(run)]))),
    restores: computed(owned(async () => lines(await parts.restores.list(store)))),
    snapshot: stream(owned((call) => parts.backup(store, call))),
    defrag: stream(owned(() => defragSteps(parts))),
  }
}

function verbsOf(parts: RaftTreeParts, store: string): Record<string, CtlVerb> {
  const member = (run: (operations: Operations, call: Call, words: readonly string[]) => Promise<void>): CtlVerb => {
    return async (call, words) => {
      if (parts.operations === undefined) {
        const message = 'this node is alone: nine up --node and --peers make it one of a cluster'
        throw new NineError({ kind: 'unsupported', op, path: call.path, message })
      }
      try {
        await run(parts.operations, call, words)
      } catch (error) {
        throw operationError(error, op)
      }
    }
  }
  return {
    add: member(async (operations, _call, words) => {
      const [peer, role] = wordsOf('add NAME=HOST:PORT [learner]', words, 1, 2)
      if (role !== undefined && role !== 'learner') throw usage('add NAME=HOST:PORT [learner]')
      await operations.add(parsePeer(peer!, 'add'), role === undefined ? 'voter' : 'learner')
    }),
    remove: member(async (operations, { context }, words) => {
      const [name, force] = wordsOf('remove NAME [force]', words, 1, 2)
      if (force !== undefined && force !== 'force') throw usage('remove NAME [force]')
      await operations.remove(context, name!, force !== undefined)
    }),
    promote: member((operations, { context }, words) => operations.promote(context, wordsOf('promote NAME', words, 1, 1)[0]!)),
    transfer: member((operations, { context }, words) => operations.transfer(context, store, wordsOf('transfer NAME', words, 1, 1)[0]!)),
    restore: async ({ context }, words) => {
      const [name, force] = wordsOf('restore BACKUP [force]', words, 1, 2)
      if (force !== undefined && force !== 'force') throw usage('restore BACKUP [force]')
      await parts.restores.restore(context, store, name!, { force: force !== undefined })
    },
    snapshot: async (_call, words) => {
      wordsOf('snapshot', words, 0, 0)
      await parts.save()
    },
    defrag: async (_call, words) => {
      wordsOf('defrag', words, 0, 0)
      await parts.defrag(() => undefined)
    },
  }
}

const op = 'cluster.ctl'

/** Steps that a reader is too slow for are left out. */
async function* defragSteps(parts: RaftTreeParts): AsyncGenerator<object> {
  let newest: object | undefined
  let tell = (): void => undefined
  const done = parts.defrag((step) => {
    newest = step
    tell()
  })
  const ended = done.then(
    () => true,
    () => true,
  )
  for (let isEnded = false; !isEnded;) {
    const told = new Promise<boolean>((resolve) => (tell = () => resolve(false)))
    isEnded = await Promise.race([told, ended])
    const step = newest
    newest = undefined
    if (!isEnded && step !== undefined) yield step
  }
  yield { step: 'done', ...(await done) }
}

/** A node whose disk has failed does nothing for its groups, whatever they were last. */
function withFailure({ failure }: RaftTreeParts, status: object): object {
  const why = failure()
  return why === undefined ? status : { ...status, role: 'stopped', isReady: false, failure: why }
}

/** What keeps a store on this node from going on, for now. */
function withTrouble({ stores }: RaftTreeParts, store: string, status: object): object {
  const trouble = stores().find(({ name }) => name === store)?.trouble
  return trouble === undefined ? status : { ...status, trouble }
}

function aloneStatus({ name, stores }: RaftTreeParts, store: string): object {
  const applied = stores().find((known) => known.name === store)?.appliedIndex ?? 0
  const configuration = { voters: [name], outgoing: [], learners: [], demoted: [] }
  return { store, node: name, term: 1, role: 'leader', leader: name, configuration, commit: applied, applied, isReady: true }
}

function aloneMember({ name, version }: RaftTreeParts): Partial<MemberRow> {
  return { node: name, role: 'voter', isLeader: true, isSelf: true, isActive: true, behind: 0, version }
}

function lines(rows: readonly object[]): string {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join('')
}

function wordsOf(form: string, words: readonly string[], least: number, most: number): readonly string[] {
  if (words.length < least || words.length > most) throw usage(form)
  return words
}

function usage(form: string): NineError {
  return new NineError({ kind: 'invalid', op, message: `the command is ${form}` })
}

function checkOwner({ principal, path }: Call, owner: Principal): void {
  if (principal.name === owner.name) return
  throw new NineError({ kind: 'denied', op: 'cluster.raft', path, message: `this is for the owner of the node, ${owner.name}` })
}

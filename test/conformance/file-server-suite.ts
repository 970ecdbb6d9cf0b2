/**
 * The one suite that every file server passes: memory, store, union, remote, and whoever comes next.
 *
 * S1 Every test has a stable name, unique over the suite. What a server does not do is a skip that names a test or a
 *    group and says why; it is shown as skipped, with the reason. A skip that names nothing fails.
 * S2 One server is opened for all tests; each test has a directory of its own in it.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import { handleGroups } from './suite/handles.ts'
import { leaseGroups } from './suite/leases.ts'
import { listGroups } from './suite/list.ts'
import { onceGroups } from './suite/once.ts'
import { readGroups } from './suite/read.ts'
import { rightsGroups } from './suite/rights.ts'
import { guest, toolsFor, type Group } from './suite/tools.ts'
import { treeGroups } from './suite/tree.ts'
import { txnGroups } from './suite/txn.ts'
import { valueGroups } from './suite/values.ts'
import { watchGroups } from './suite/watch.ts'
import { writeGroups } from './suite/write.ts'

/** A server under test. */
export interface OpenedServer {
  readonly server: FileServer
  /** A context of this principal; of the owner of the tree without one. */
  context(principal?: Principal): Context
  /** The server as this principal reaches it, where that is a connection of its own. Default: `server`. */
  serverFor?(principal: Principal): Promise<FileServer>
  /** An existing directory that the suite may fill. Default: the root. */
  readonly directory?: string
  close(): Promise<void>
}

/** What a server does not do, and why. */
export type Skip = { readonly test: string; readonly why: string } | { readonly group: string; readonly why: string }

export const suiteGroups: readonly Group[] = [
  ...readGroups,
  ...listGroups,
  ...writeGroups,
  ...treeGroups,
  ...valueGroups,
  ...txnGroups,
  ...watchGroups,
  ...leaseGroups,
  ...handleGroups,
  ...onceGroups,
  ...rightsGroups,
]

export function fileServerSuite(
  name: string,
  open: () => Promise<OpenedServer>,
  { skip = [] }: { readonly skip?: readonly Skip[] } = {},
): void {
  describe(`file server: ${name}`, () => {
    let opened: OpenedServer | undefined
    let guestServer: FileServer | undefined
    let count = 0
    beforeAll(async () => {
      opened = await open()
      guestServer = (await opened.serverFor?.(guest)) ?? opened.server
    })
    afterAll(async () => opened?.close())

    it('every skip names a test or group of the suite, and its reason', () => {
      expect(skip.filter((entry) => !isKnown(entry) || entry.why.trim() === '')).toEqual([])
    })

    for (const { group, tests } of suiteGroups) {
      describe(group, () => {
        for (const test of tests) {
          const why = skip.find((entry) => ('test' in entry ? entry.test === test.name : entry.group === group))?.why
          if (why !== undefined) {
            it.skip(`${test.name} (skipped: ${why})`, () => undefined)
            continue
          }
          it(
            test.name,
            async () => {
              const { server, directory = '' } = opened!
              const contextOf = (principal?: Principal): Context => opened!.context(principal)
              const base = parsePath(`${directory}/t${++count}`)
              await server.mkdir(contextOf(), base)
              await test.run(toolsFor(server, guestServer!, contextOf, base))
            },
            test.timeout,
          )
        }
      })
    }
  })
}

function isKnown(entry: Skip): boolean {
  return 'test' in entry
    ? suiteGroups.some(({ tests }) => tests.some(({ name }) => name === entry.test))
    : suiteGroups.some(({ group }) => group === entry.group)
}

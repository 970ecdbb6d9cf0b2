/**
 * The contract over 9P: our client at a real diod, and at our own server in both dialects. What 9P, or diod, does not promise is a skip
 * with its reason.
 */
import { expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { connectNinep } from '../../namespace/ninep/connect.ts'
import type { Dialect } from '../../proto/ninep/messages.ts'
import { diodUid, hasDiod, startDiod } from '../ninep/diod.ts'
import { startEdge } from '../ninep/edge.ts'
import { fileServerSuite, type Skip } from './file-server-suite.ts'
import { atDiod, everywhere, inPlan9 } from './ninep-skips.ts'
import { settledOnTheirOwn } from './settled.ts'

const owner = { name: 'owner', groups: [] }

if (hasDiod) {
  fileServerSuite(
    'ninep at diod',
    async () => {
      const diod = await startDiod()
      const mount = await connectNinep({ address: diod.address, aname: diod.folder, uname: 'root', uid: diodUid })
      return {
        server: settledOnTheirOwn(mount.server),
        context: (principal = owner) => contextFor(principal),
        close: async () => {
          await mount.close()
          await diod.close()
        },
      }
    },
    { skip: [...everywhere, ...atDiod] },
  )
} else {
  it.skipIf(process.env['CI'] !== 'true')('ninep at diod (skipped: there is no /usr/sbin/diod; Debian has it as the package diod)', () => {
    expect(hasDiod).toBe(true)
  })
}

function atOurServer(dialect: Dialect, skip: readonly Skip[]): void {
  fileServerSuite(
    `ninep at services/9p in ${dialect}`,
    async () => {
      const edge = await startEdge()
      const mount = await connectNinep({ address: edge.address, uname: 'owner', dialect })
      return {
        server: settledOnTheirOwn(mount.server),
        directory: '/data',
        context: (principal = owner) => contextFor(principal),
        close: async () => {
          await mount.close()
          await edge.close()
        },
      }
    },
    { skip },
  )
}

atOurServer('9P2000.L', everywhere)
atOurServer('9P2000', [...everywhere, ...inPlan9])

/** A node's way into its cluster, before its stores are open: who it is, and what it founds or joins. */
import { readFile } from 'node:fs/promises'
import { systemClock } from '../../namespace/clock.ts'
import { systemRandom } from '../../namespace/random.ts'
import { Cluster } from '../cluster/cluster.ts'
import type { ClusterOptions } from '../cluster/cluster.ts'
import type { Identity } from '../identity/identity.ts'
import type { ParsedCluster } from './cluster-options.ts'

export interface FormingParts {
  readonly data: string
  readonly version: string
  readonly logger: ClusterOptions['logger']
  /** The identity stands in the data folder, so it is opened once that is prepared. */
  readonly openIdentity: () => Promise<Identity>
  readonly waiting: (text: string) => void
  readonly signal: AbortSignal | undefined
}

/** @throws NineError what a person has to put right; `unavailable` when the signal aborts */
export async function formCluster(
  flags: ParsedCluster,
  parts: FormingParts,
): Promise<{ readonly cluster: Cluster; readonly identity: Identity }> {
  const { data, version, logger, openIdentity, waiting, signal = new AbortController().signal } = parts
  let identity: Identity | undefined
  const cluster = await Cluster.form(
    {
      ...flags,
      data,
      version,
      logger,
      waiting,
      identify: async () => {
        identity = await openIdentity()
        return { owner: identity.owner, secret: (await readFile(identity.tokenFile, 'utf8')).trim() }
      },
      clock: systemClock,
      random: systemRandom,
    },
    signal,
  )
  return { cluster, identity: identity! }
}

/** A node's way into its cluster, before its stores are open: who it is, and what it founds or joins. */
import { readFile } from 'node:fs/promises'
import { systemClock } from '../../namespace/clock.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import { systemRandom } from '../../namespace/random.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import { Cluster } from '../cluster/cluster.ts'
import type { ClusterOptions } from '../cluster/cluster.ts'
import type { Identity } from '../identity/identity.ts'
import { SharedPrincipals } from '../identity/shared-principals.ts'
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
      bring: (sys, context) => SharedPrincipals.bring(sys, context, identity!.others),
      clock: systemClock,
      random: systemRandom,
    },
    signal,
  )
  return { cluster, identity: identity! }
}

const heardVerb = 'identity.heard'

/** The principals of this node are its cluster's from now on. @throws NineError as Identity.join */
export async function sharePrincipals(
  cluster: Cluster,
  identity: Identity,
  engine: Engine,
  context: (timeoutMs?: number) => Context,
  logger: ClusterOptions['logger'],
): Promise<void> {
  const warn = (error: unknown): void => logger.warn({ err: error }, 'principals of the cluster could not be followed, and will be again')
  cluster.onAsked(heardVerb, async (body, deadline) => {
    const revision = Number(Buffer.from(body).toString())
    if (await identity.heardOf(revision, deadline - systemClock.monotonic())) return new Uint8Array(0)
    throw new NineError({ kind: 'deadline', op: heardVerb, message: 'this node has not heard of it yet' })
  })
  const sys = engine.store('sys')
  const { group } = engine.rows().find(({ name }) => name === 'sys')!
  const isLed = (): boolean => (engine.member?.replica(group)?.leader ?? null) !== null
  const own = identity.others.map(({ name }) => name)
  await identity.join(new SharedPrincipals({ sys, context, isLed, warn }), (revision, ms) =>
    cluster.askAll(heardVerb, Buffer.from(String(revision)), ms),
  )
  const known = new Set(identity.list().map(({ name }) => name))
  const lost = own.filter((name) => !known.has(name))
  if (lost.length > 0) logger.warn({ principals: lost }, 'tokens that this folder had alone have ended: the cluster has its own')
}

/** What nodes ask each other before they are members of one cluster, over the peer service's calls; bodies are JSON. */
import { z } from 'zod'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Who } from './formation.ts'
import type { Peer } from './peer-list.ts'
import { storeRecord } from './records.ts'

/** Asked of whoever listens at an address: who are you, and what do you know of me? */
export const whoVerb = 'who'
/** Asked of a member that serves: take me in. */
export const joinVerb = 'join'

const text = z.string().min(1).max(255)

export const whoQuestion = z.object({ name: text, member: text })

const folderState = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('empty') }),
  z.object({ kind: z.literal('data') }),
  z.object({ kind: z.literal('member'), cluster: text, member: text, stage: z.enum(['founding', 'joining', 'member']) }),
])

export const whoAnswer = z.object({
  name: text,
  owner: text,
  version: text,
  peers: z.array(z.object({ name: text, address: text })).max(limits.cluster_nodes_max),
  folder: folderState,
  isServing: z.boolean(),
  isRemoved: z.boolean(),
  successor: text.optional(),
})
export type WhoAnswer = z.infer<typeof whoAnswer> & Who

export const joinQuestion = z.object({ name: text, member: text, address: text })

/** The stores there are: what the newcomer begins with. */
export const joinAnswer = z.object({ cluster: text, stores: z.array(storeRecord.extend({ name: text })).max(limits.stores_max) })
export type JoinAnswer = z.infer<typeof joinAnswer>

export interface Caller {
  /** Ask whoever listens at `address`. @param deadline monotonic milliseconds */
  call(address: string, verb: string, body: Uint8Array, options: { readonly deadline: number }): Promise<Uint8Array>
}

/** @throws NineError what the other threw, `unavailable`, `deadline`, `invalid` for an answer that is none */
export async function ask<T>(
  caller: Caller,
  { address }: Peer,
  verb: string,
  question: object,
  answer: z.ZodType<T>,
  ms: number,
): Promise<T> {
  const body = Buffer.from(JSON.stringify(question))
  return decode(answer, await caller.call(address, verb, body, { deadline: performance.now() + ms }), `the answer of ${address} to ${verb}`)
}

/** @throws NineError `invalid` */
export function decode<T>(shape: z.ZodType<T>, bytes: Uint8Array, what: string): T {
  try {
    return shape.parse(JSON.parse(Buffer.from(bytes).toString()))
  } catch (cause) {
    throw new NineError({ kind: 'invalid', op: 'cluster.call', message: `${what} is not as expected`, cause })
  }
}

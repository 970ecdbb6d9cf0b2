/**
 * Ask the peers until it is clear what this node does: found, join, or open the folder of a member. The deciding is in `formation.ts`.
 *
 * D1 A node that refuses answers its peers a little longer: what does not fit is said by both sides, whichever asked first.
 */
import { isNineError, NineError, textOf } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { describe, isMember, nextOf } from './formation.ts'
import type { Heard, Next, Own, Who } from './formation.ts'
import type { Peer } from './peer-list.ts'

export interface FormationPorts {
  /** @throws NineError */
  ask(peer: Peer): Promise<Who>
  /** What is being waited for; each time it changes. */
  readonly waiting: (text: string) => void
  /** Aborted when the node is told to stop. */
  readonly signal: AbortSignal
}

export type Decided = Extract<Next, { do: 'found' | 'join' | 'open' }>

/** @throws NineError what a person has to put right (`invalid`, `denied`); `unavailable` when told to stop */
export async function decide(own: Own, ports: FormationPorts): Promise<Decided> {
  const others = own.peers.filter(({ name }) => name !== own.name)
  const heard = new Map<string, Heard>()
  let said = ''
  for (;;) {
    await Promise.all(others.map(async (peer) => heard.set(peer.name, await hear(peer, ports))))
    if (ports.signal.aborted) throw new NineError({ kind: 'unavailable', op: 'cluster.form', message: 'the node was told to stop' })
    const next = nextOf(own, heard)
    if (next.do === 'refuse') {
      if (!isMember(own.folder)) await pause(limits.cluster_refused_ms, ports.signal) // D1
      throw new NineError({ kind: next.kind, op: 'cluster.form', message: next.message })
    }
    if (next.do !== 'wait') return next
    const text = `waiting for ${describe(next.for)}`
    if (text !== said) ports.waiting((said = text))
    await pause(limits.cluster_ask_again_ms, ports.signal)
  }
}

/** Resolves after `ms`, or when the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, ms)
    signal.addEventListener('abort', end)
    if (signal.aborted) end()
  })
}

async function hear(peer: Peer, ports: FormationPorts): Promise<Heard> {
  try {
    return { kind: 'who', who: await ports.ask(peer) }
  } catch (error) {
    if (isNineError(error, 'unauthenticated')) {
      return { kind: 'stranger', error: error.kind, why: 'it has another secret than this node: one of the two has the wrong --token-file' }
    }
    if (isNineError(error, 'denied')) return { kind: 'stranger', error: error.kind, why: error.message }
    return { kind: 'silent', why: textOf(error) }
  }
}

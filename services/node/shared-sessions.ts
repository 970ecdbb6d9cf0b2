/**
 * The sessions in which requests without one of their own are served (HTTP, unary gRPC): one a principal, made anew when its
 * saved namespace has changed.
 *
 * H1 What is under way in an older one goes on: its connections to other nodes are handed to the newer one, not closed.
 */
import type { NineError } from '../../namespace/errors.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { SavedNamespace } from './homes.ts'
import type { NodeSession } from './node-session.ts'
import type { Sources } from './sources.ts'

/** What all sessions that follow each other have in common. */
export interface SharedParts {
  readonly sources: Sources
  readonly ended: AbortController
}

export interface SharedSessionsOptions {
  readonly saved: (principal: Principal) => Promise<SavedNamespace>
  readonly parts: (principal: Principal) => SharedParts
  readonly open: (principal: Principal, parts: SharedParts) => Promise<NodeSession>
  /** Told of failures that nobody waits for. */
  readonly warn: (error: unknown) => void
}

interface Shared {
  readonly principal: Principal
  readonly version: string
  readonly parts: SharedParts
  readonly session: Promise<NodeSession>
}

export class SharedSessions {
  readonly #options: SharedSessionsOptions
  readonly #sessions = new Map<string, Shared>()

  constructor(options: SharedSessionsOptions) {
    this.#options = options
  }

  async of(principal: Principal): Promise<NodeSession> {
    const { version } = await this.#options.saved(principal)
    const known = this.#sessions.get(principal.name)
    if (known?.version === version && known.principal === principal) return known.session
    const parts = known?.principal === principal ? known.parts : this.#options.parts(principal)
    const session = this.#options.open(principal, parts)
    const shared: Shared = { principal, version, parts, session }
    this.#sessions.set(principal.name, shared)
    if (parts === known?.parts) void known.session.then((older) => older.retire(), ignored)
    session.catch(() => {
      if (this.#sessions.get(principal.name) === shared) this.#sessions.delete(principal.name)
    })
    return session
  }

  /** Refuse what is and would be done in the session of a principal. */
  end(name: string, reason: NineError): void {
    const known = this.#sessions.get(name)
    if (known === undefined) return
    this.#sessions.delete(name)
    known.parts.ended.abort(reason)
    close(known).catch(this.#options.warn)
  }

  async close(): Promise<void> {
    const all = [...this.#sessions.values()]
    this.#sessions.clear()
    await Promise.all(all.map(close))
  }
}

/** Whoever asked for that session was told. */
function ignored(): void {}

async function close({ session, parts }: Shared): Promise<void> {
  await (await session.catch(() => undefined))?.close()
  await parts.sources.close()
}

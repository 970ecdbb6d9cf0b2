/** Requests to the node that are no file operations: principals and their tokens, upkeep of the stores. */
import { z } from 'zod'
import { NineError } from '../../namespace/errors.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import type { Identity, Issued, TokenChange } from '../identity/identity.ts'

const named = z.strictObject({ name: z.string() })
const created = z.strictObject({ name: z.string(), groups: z.array(z.string()).default([]) })

export class Controls {
  readonly #identity: Identity
  readonly #engine: Engine

  constructor(identity: Identity, engine: Engine) {
    this.#identity = identity
    this.#engine = engine
  }

  /** All are for the node's owner alone. @throws NineError `denied`, `unsupported` for an unknown name, `invalid` */
  async run(principal: Principal, name: string, value: unknown): Promise<unknown> {
    const op = 'node.control'
    if (!Object.hasOwn(handlers, name)) throw new NineError({ kind: 'unsupported', op, message: `no control ${JSON.stringify(name)}` })
    if (principal.name !== this.#identity.owner.name) {
      throw new NineError({ kind: 'denied', op, message: `${name} is for the owner of the node, ${this.#identity.owner.name}` })
    }
    return handlers[name as keyof typeof handlers](this, value)
  }

  /** `late`: nodes of the cluster that have not heard of it yet. */
  createToken(value: unknown): Promise<Issued> {
    const { name, groups } = parse(created, value)
    return this.#identity.issue(name, groups)
  }

  listTokens(): { principals: { name: string; groups: readonly string[]; isOwner: boolean }[] } {
    const owner = this.#identity.owner.name
    return { principals: this.#identity.list().map(({ name, groups }) => ({ name, groups, isOwner: name === owner })) }
  }

  revokeToken(value: unknown): Promise<TokenChange> {
    return this.#identity.revoke(parse(named, value).name)
  }

  /** Remove chunks and records nothing refers to any more, now. */
  collect(): Promise<unknown> {
    return this.#engine.collect()
  }
}

const handlers = {
  'token.create': async (controls: Controls, value: unknown) => controls.createToken(value),
  'token.list': async (controls: Controls) => controls.listTokens(),
  'token.revoke': async (controls: Controls, value: unknown) => controls.revokeToken(value),
  'store.collect': (controls: Controls) => controls.collect(),
}

function parse<T>(shape: z.ZodType<T>, value: unknown): T {
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new NineError({
    kind: 'invalid',
    op: 'node.control',
    message: `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not as expected'}`,
  })
}

/** Requests to the node that are no file operations: principals and their tokens, upkeep of the stores. */
import { z } from 'zod'
import { NineError } from '../../namespace/errors.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import type { Identity } from '../identity/identity.ts'

const named = z.strictObject({ name: z.string() })
const created = z.strictObject({ name: z.string(), groups: z.array(z.string()).default([]) })

export class Controls {
  readonly #identity: Identity
  readonly #engine: Engine
  readonly #onRevoked: (principal: string) => void

  /** @param onRevoked called when a principal's token has ended, so that its sessions end too */
  constructor(identity: Identity, engine: Engine, onRevoked: (principal: string) => void) {
    this.#identity = identity
    this.#engine = engine
    this.#onRevoked = onRevoked
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

  async createToken(value: unknown): Promise<{ token: string }> {
    const { name, groups } = parse(created, value)
    const token = await this.#identity.issue(name, groups)
    this.#onRevoked(name)
    return { token }
  }

  listTokens(): { principals: { name: string; groups: readonly string[]; isOwner: boolean }[] } {
    const owner = this.#identity.owner.name
    return { principals: this.#identity.list().map(({ name, groups }) => ({ name, groups, isOwner: name === owner })) }
  }

  async revokeToken(value: unknown): Promise<void> {
    const { name } = parse(named, value)
    await this.#identity.revoke(name)
    this.#onRevoked(name)
  }

  /** Remove chunks and records nothing refers to any more, now. */
  collect(): Promise<unknown> {
    return this.#engine.collect()
  }
}

const handlers = {
  'token.create': (controls: Controls, value: unknown) => controls.createToken(value),
  'token.list': async (controls: Controls) => controls.listTokens(),
  'token.revoke': (controls: Controls, value: unknown) => controls.revokeToken(value),
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

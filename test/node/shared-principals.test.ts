/** Principals of a cluster as one node has them: what it loads, what it hears, and what it says while it does not hear of the others. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import { parsePath } from '../../namespace/path.ts'
import { Identity } from '../../services/identity/identity.ts'
import { SharedPrincipals } from '../../services/identity/shared-principals.ts'
import { openEngine } from '../../storage/engine/engine.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import type { Store } from '../../storage/store/store.ts'
import { eventually, failure } from './running.ts'

const owner = { name: 'owner', groups: [] }

let dir: string
let engine: Engine
let sys: Store
let identity: Identity
let warnings: unknown[]
/** Whether the others are in reach: linearizable requests are answered. */
let isLed: boolean

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ninefold-principals-'))
  engine = await openEngine({ dir: join(dir, 'data'), owner: 'owner' })
  sys = await engine.createStore('sys', 'owner')
  identity = await Identity.open({ dir: join(dir, 'identity'), ownerName: 'owner' })
  warnings = []
  isLed = true
})

afterEach(async () => {
  await identity.close()
  await engine.close()
  await rm(dir, { recursive: true })
})

/** The identity of this node joins its cluster. */
async function joinCluster(): Promise<void> {
  const cut = new Proxy(sys, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (name === 'stat' && !isLed && (args[2] as { consistency?: string } | undefined)?.consistency !== 'stale') {
          return Promise.reject(new NineError({ kind: 'unavailable', op: 'test.stat', message: 'there is no leader' }))
        }
        return (value as (...all: unknown[]) => unknown).apply(target, args)
      }
    },
  })
  const parts = {
    sys: cut,
    context: (ms?: number) => contextFor(owner, ms),
    isLed: () => isLed,
    warn: (error: unknown) => warnings.push(error),
  }
  await identity.join(new SharedPrincipals(parts), () => Promise.resolve([]))
}

function isKnown(token: string): boolean {
  try {
    identity.authenticate(token)
    return true
  } catch {
    return false
  }
}

async function kindOf(token: string): Promise<string> {
  return identity.authenticate(token) === undefined ? '' : 'known'
}

describe('a node that hears of the others', () => {
  it('knows what was brought along, and what is made, changed and ended by anybody', async () => {
    await SharedPrincipals.bring(sys, () => contextFor(owner), [{ name: 'ann', groups: ['g'], tokenSha256: 'of ann' }])
    await joinCluster()
    expect(identity.list()).toEqual([owner, { name: 'ann', groups: ['g'] }].map((one) => ({ ...one, groups: one.groups })))
    const ended: string[] = []
    identity.onEnded = (name) => ended.push(name)
    const { token } = await identity.issue('bob')
    const bob = identity.authenticate(token)
    expect(bob).toMatchObject({ name: 'bob' })
    // What stands as before goes on as the same, also when all is loaded again.
    await sys.write(contextFor(owner), parsePath('/identity/principals/bob'), Buffer.from(JSON.stringify({ groups: [], tokenSha256: (bob as never as { tokenSha256: string }).tokenSha256 }))) // prettier-ignore
    await sys.write(contextFor(owner), parsePath('/identity/principals/cid'), Buffer.from('{"groups":[],"tokenSha256":"of cid"}'))
    await eventually(async () => (identity.list().some(({ name }) => name === 'cid') ? true : undefined))
    expect(identity.isCurrent(bob)).toBe(true)
    expect(ended).toEqual([])
    const second = await identity.issue('bob')
    expect(isKnown(token)).toBe(false)
    expect(isKnown(second.token)).toBe(true)
    await identity.revoke('bob')
    expect(isKnown(second.token)).toBe(false)
    expect(ended).toEqual(['bob', 'bob'])
    await failure(identity.revoke('bob'), 'not_found')
    // All of them at once.
    await sys.remove(contextFor(owner), parsePath('/identity'), { recursive: true })
    await eventually(async () => (identity.list().length === 1 ? true : undefined))
    expect((await identity.issue('eve')).late).toEqual([])
    expect(warnings).toEqual([])
  })

  it('gives nobody a way in by a damaged record, or one that claims to be the owner’s', async () => {
    await joinCluster()
    const records = ['/identity/principals/bad', '/identity/principals/owner', '/identity/principals/Not A Name']
    for (const [index, path] of records.entries()) {
      const text = index === 0 ? '{' : '{"groups":[],"tokenSha256":"0"}'
      await sys.write(contextFor(owner), parsePath(path), Buffer.from(text), { parents: true })
    }
    const { token } = await identity.issue('ann')
    expect(isKnown(token)).toBe(true)
    expect(identity.list().map(({ name }) => name)).toEqual(['owner', 'ann'])
    expect(warnings.length).toBe(2)
  })
})

describe('a node that does not', () => {
  it('lets in whom it knows, and does not say that nobody has a token, until it has heard of them again', async () => {
    await joinCluster()
    const { token } = await identity.issue('ann')
    await expect(kindOf('a-token-of-nobody')).rejects.toMatchObject({ kind: 'unauthenticated' })
    isLed = false
    expect(isKnown(token)).toBe(true)
    await expect(kindOf('a-token-of-nobody')).rejects.toMatchObject({ kind: 'unavailable' })
    await expect(kindOf('')).rejects.toMatchObject({ kind: 'unauthenticated' })
    isLed = true
    await expect(kindOf('a-token-of-nobody')).rejects.toMatchObject({ kind: 'unauthenticated' })
  })

  it('is so from its start until it has all that there is', async () => {
    isLed = false
    await joinCluster()
    await expect(kindOf('a-token-of-nobody')).rejects.toMatchObject({ kind: 'unavailable' })
    const { token } = await identity.issue('ann')
    expect(isKnown(token)).toBe(true)
    isLed = true
    await eventually(
      async () => (await kindOf('a-token-of-nobody').catch((error: NineError) => error.kind)) === 'unauthenticated' || undefined,
    )
    expect(isKnown(token)).toBe(true)
    await identity.revoke('ann')
    expect(isKnown(token)).toBe(false)
  })
})

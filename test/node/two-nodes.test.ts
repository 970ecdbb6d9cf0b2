/** Two nodes: one's tree in the other's namespace, while both are up, one is down, and each is in the other. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EmbeddedRegistry } from '../../discovery/embedded.ts'
import { systemClock } from '../../namespace/clock.ts'
import { contextFor } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import type { Session } from '../../sdk/session.ts'
import { Sources } from '../../services/node/sources.ts'
import { Catalog } from '../../services/svc/catalog.ts'
import { Services } from '../../services/svc/services.ts'
import { eventually, failure, TestNode, textOrKind } from './running.ts'

let here: TestNode
let there: TestNode
let session: Session
let direct: Session

beforeAll(async () => {
  here = await TestNode.start({ name: 'here' })
  there = await TestNode.start({ name: 'there' })
  session = await here.connect()
  direct = await there.connect()
}, 60_000)

afterAll(async () => {
  await here.close()
  await there.close()
})

/** Give the owner of `node` the token for `other`. */
async function introduce(node: Session, other: TestNode): Promise<string> {
  await node.client.write(`/usr/owner/tokens/${other.node.grpc}`, `${other.token}\n`, { parents: true })
  return `nine://${other.node.grpc}`
}

describe('nine://', () => {
  it('says where its token goes when there is none, and refuses sources it does not know', async () => {
    const error = await failure(session.namespace.mount(`nine://${there.node.grpc}`, '/there'), 'not_found')
    expect(error.message).toContain(`/usr/owner/tokens/${there.node.grpc}`)
    await failure(session.namespace.mount('http://127.0.0.1', '/x'), 'invalid')
    await failure(session.namespace.mount('nine://', '/x'), 'invalid')
    await session.client.write('/usr/owner/tokens/127.0.0.1:1', 'nobody', { parents: true })
    await failure(session.namespace.mount('nine://127.0.0.1:1', '/x'), 'unavailable')
  })

  it('reads, writes, lists and watches a tree of another node below a path of ours', async () => {
    const source = await introduce(session, there)
    await direct.client.mkdir('/data/shared')
    await session.namespace.mount(`${source}/data/shared`, '/there')
    await session.client.write('/there/ours', 'written here')
    expect(await direct.client.readText('/data/shared/ours')).toBe('written here')
    await direct.client.write('/data/shared/theirs', 'written there')
    expect(await session.client.readText('/there/theirs')).toBe('written there')
    expect((await session.client.listAll('/there')).entries.map((entry) => entry.name)).toEqual(['ours', 'theirs'])
    const { revision } = await direct.client.write('/data/shared/watched', '1')
    await direct.client.write('/data/shared/watched', '2')
    const seen: string[] = []
    for await (const event of session.client.watch('/there', { recursive: true, from: revision })) {
      seen.push(`${event.type} ${event.path} ${Buffer.from(event.bytes ?? []).toString()}`)
      if (seen.length === 2) break
    }
    expect(seen).toEqual(['create /there/watched 1', 'change /there/watched 2'])
    await session.client.rename('/there/ours', '/there/moved')
    await failure(session.client.rename('/there/moved', '/data/moved'), 'cross_store')
    await session.client.copy('/there/moved', '/data/copied')
    expect(await session.client.readText('/data/copied')).toBe('written here')
    expect((await session.namespace.entries()).map((entry) => entry.text)).toContain(`mount ${source}/data/shared /there`)
  })

  it('keeps no more connections in a session than it may have mounts, whatever was unmounted', async () => {
    let give: (token: string) => void = () => undefined
    const token = new Promise<string>((resolve) => (give = resolve))
    const services = new Services({
      registry: new EmbeddedRegistry(systemClock),
      catalog: new Catalog(new MemoryServer({ owner: 'owner' }), () => contextFor({ name: 'owner', groups: [] })),
      storeFor: () => Promise.reject(new Error('no store is wanted')),
      owner: { name: 'owner', groups: [] },
      node: 'here',
      instanceName: () => 'one',
      warn: () => undefined,
    })
    const sources = new Sources(services, () => token, 'owner', true)
    const kept: Promise<unknown>[] = []
    for (let i = 0; i < limits.mounts_max; i++) kept.push(sources.resolve(`nine://127.0.0.1:${i + 1}`).catch(() => undefined))
    await failure(sources.resolve('nine://127.0.0.1:2000'), 'overloaded')
    give('none')
    await Promise.all(kept)
    await failure(sources.resolve('nine://127.0.0.1:1'), 'unavailable')
    await sources.close()
  })

  it('goes through a saved namespace over HTTP', async () => {
    const source = await introduce(session, there)
    await session.namespace.save(`mount ${source}/data /over-http`)
    await direct.client.write('/data/seen', 'over http')
    const answer = await here.fetch('/v1/fs/over-http/seen')
    expect(answer.status).toBe(200)
    expect(await answer.text()).toBe('over http')
    await session.namespace.save('unmount /over-http')
    expect((await here.fetch('/v1/fs/over-http/seen')).status).toBe(404)
  })

  it('ends with loop where each is in the other', async () => {
    const one = await here.connect()
    const two = await there.connect()
    // Saved, so that what the sessions between the nodes see has the mounts as well.
    await one.namespace.save(`mount ${await introduce(one, there)} /there`)
    await two.namespace.save(`mount ${await introduce(two, here)} /here`)
    const ring = await here.connect()
    const error = await failure(ring.client.stat(`${'/there/here'.repeat(limits.hops_max)}/data`), 'loop').catch(
      (thrown: unknown) => thrown,
    )
    await one.namespace.save('unmount /there')
    await two.namespace.save('unmount /here')
    expect(error).toMatchObject({ kind: 'loop' })
  }, 60_000)

  it('is unavailable while the other node is down, and works again when it is back', async () => {
    const own = await here.connect()
    await own.namespace.mount(`${await introduce(own, there)}/data`, '/other')
    await direct.client.write('/data/up', 'up')
    expect(await own.client.readText('/other/up')).toBe('up')
    const addresses = await there.stop()
    const asked = performance.now()
    const error = await failure(own.client.read('/other/up', { timeoutMs: 60_000 }), 'unavailable')
    expect(performance.now() - asked).toBeLessThan(2 * limits.reconnect_ms_max)
    expect(error.path).toBe('/other/up')
    await failure(own.client.read('/other/up', { timeoutMs: 100 }), 'unavailable')
    expect(await own.client.exists('/data')).toBe(true)
    await there.start(addresses)
    await eventually(async () => ((await textOrKind(own, '/other/up')) === 'up' ? true : undefined))
    await own.client.write('/other/up', 'again')
    await eventually(async () => ((await textOrKind(direct, '/data/up')) === 'again' ? true : undefined))
  }, 60_000)
})

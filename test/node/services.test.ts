/** Services of a node: what /svc shows while their processes come and go. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { computed, ctl } from '../../namespace/serve/entries.ts'
import { defineService, mounted } from '../../sdk/service.ts'
import type { Session } from '../../sdk/session.ts'
import { eventually, failure, TestNode, textOrKind } from './running.ts'

let node: TestNode
let owner: Session

beforeAll(async () => {
  node = await TestNode.start()
  owner = await node.connect()
}, 60_000)

afterAll(() => node.close())

function giving(name: string, text: string, options?: { readonly store?: boolean; readonly namespace?: string }) {
  return defineService(name, { value: computed(() => text), ctl: ctl({ poke: () => undefined }) }, options)
}

async function names(path: string): Promise<string[]> {
  return (await owner.client.listAll(path)).entries.map((entry) => entry.name)
}

/** Until `path` answers with `expected`: its text, or the kind of its failure. */
async function becomes(path: string, expected: string, ms?: number): Promise<void> {
  await eventually(async () => ((await textOrKind(owner, path)) === expected ? true : undefined), ms)
}

describe('/svc', () => {
  it('shows the store of a service and over it the names of its process; stored files go on without it', async () => {
    const process = await node.serve(giving('both', 'served', { store: true }))
    await process.client.write('/store/kept', 'stored')
    await process.client.write('/store/value', 'covered')
    expect(await names('/svc/both')).toEqual(['ctl', 'kept', 'value'])
    expect(await owner.client.readText('/svc/both/value')).toBe('served')
    await owner.client.write('/svc/both/by-another', 'x')
    expect(await process.client.readText('/store/by-another')).toBe('x')

    await process.close()
    await becomes('/svc/both/value', 'unavailable')
    await failure(owner.client.write('/svc/both/ctl', 'poke'), 'unavailable')
    await failure(owner.client.open('/svc/both/value', { read: true }), 'unavailable')
    expect(await owner.client.readText('/svc/both/kept')).toBe('stored')
    expect(await names('/svc/both')).toEqual(['by-another', 'ctl', 'kept', 'value'])
    expect(await names('/svc')).toContain('both')
  })

  it('remembers services over a restart of the node, and processes offer theirs again', async () => {
    const gone = await node.serve(giving('gone', 'x', { store: true }))
    await gone.client.write('/store/kept', 'stored')
    await gone.close()
    await node.serve(giving('back', 'again'))
    await node.start(await node.stop())
    expect(await textOrKind(owner, '/svc/gone/value')).toBe('unavailable')
    expect(await owner.client.readText('/svc/gone/kept')).toBe('stored')
    expect(await names('/svc/gone')).toEqual(['ctl', 'kept', 'value'])
    await becomes('/svc/back/value', 'again')
    await node.serve(giving('gone', 'new'))
    expect(await owner.client.readText('/svc/gone/value')).toBe('new')
    expect(await owner.client.readText('/svc/gone/kept')).toBe('stored')
  }, 60_000)

  it('takes away names that a newer process no longer serves', async () => {
    const first = await node.serve(defineService('shrinks', { a: computed(() => 'a'), b: computed(() => 'b') }))
    await first.close()
    await node.serve(defineService('shrinks', { b: computed(() => 'B') }))
    expect(await names('/svc/shrinks')).toEqual(['b'])
    await failure(owner.client.read('/svc/shrinks/a'), 'not_found')
  })

  it('has each live process by its instance, and gives the service to another when one leaves', async () => {
    const one = await node.serve(giving('two', 'one'), { instance: 'first' })
    const two = await node.serve(giving('two', 'two'), { instance: 'second' })
    expect(await owner.client.readText('/svc/two/value')).toBe('one')
    expect(await owner.client.readText('/svc/two@first/value')).toBe('one')
    expect(await owner.client.readText('/svc/two@second/value')).toBe('two')
    await failure(node.serve(giving('two', 'x'), { instance: 'second' }), 'exists')
    await one.withdraw()
    expect(await owner.client.readText('/svc/two/value')).toBe('two')
    await failure(owner.client.read('/svc/two@first/value'), 'not_found')
    await two.close()
    await becomes('/svc/two/value', 'unavailable')
    expect((await names('/svc')).filter((name) => name.startsWith('two'))).toEqual(['two'])
  })

  it('serves names of different instances side by side', async () => {
    const a = await node.serve(defineService('split', { a: computed(() => 'a') }))
    await node.serve(defineService('split', { a: computed(() => 'A'), b: computed(() => 'b') }))
    expect(await owner.client.readText('/svc/split/a')).toBe('a')
    expect(await owner.client.readText('/svc/split/b')).toBe('b')
    await a.close()
    await becomes('/svc/split/a', 'A')
    // One that serves less takes nothing away from those that are up.
    await node.serve(defineService('split', { c: computed(() => 'c') }))
    expect(await names('/svc/split')).toEqual(['a', 'b', 'c'])
    expect(await owner.client.readText('/svc/split/b')).toBe('b')
  })

  it('belongs to who registered it first, or the owner of the node', async () => {
    const ann = await node.tokenFor('ann')
    const eve = await node.tokenFor('eve')
    const hers = await node.serve(giving('hers', 'ann', { store: true }), { token: ann })
    await failure(node.serve(giving('hers', 'eve'), { token: eve }), 'denied')
    await failure(node.serve(giving('hers', 'eve', { store: true }), { token: eve }), 'denied')
    await hers.close()
    await failure(node.serve(giving('hers', 'eve'), { token: eve }), 'denied')
    await node.serve(giving('hers', 'owner'))
    expect(await owner.client.readText('/svc/hers/value')).toBe('owner')
    const asEve = await node.connect({ token: eve })
    await failure(asEve.client.write('/svc/hers/intruder', 'x'), 'denied')
  })

  it('knows who asks', async () => {
    await node.serve(defineService('who', { ami: computed(({ principal }) => principal.name) }))
    const ann = await node.connectAs('ann5')
    expect(await ann.client.readText('/svc/who/ami')).toBe('ann5')
    expect(await owner.client.readText('/svc/who/ami')).toBe('owner')
  })
})

describe('what a service mounts', () => {
  it('is data: its namespace file, shown as part of it', async () => {
    await node.serve(giving('dep', 'of dep'))
    const line = 'mount dep /dep'
    const desk = await node.serve(defineService('desk', { dep: mounted('/dep'), own: computed(() => 'own') }, { namespace: line }))
    expect(await owner.client.readText('/svc/desk/dep/value')).toBe('of dep')
    expect(await names('/svc/desk')).toEqual(['dep', 'own'])
    expect(await desk.client.readText('/dep/value')).toBe('of dep')
    expect(await owner.client.exists('/dep')).toBe(false)
  })

  it('fails the registration where a line is bad, and leaves nothing behind', async () => {
    const error = await failure(node.serve(giving('bad', 'x', { namespace: '\nmount dep\n' })), 'invalid')
    expect(error.message).toContain('line 2')
    await failure(node.serve(giving('bad', 'x', { namespace: 'mount no-such-service /x' })), 'not_found')
    await failure(node.serve(giving('bad', 'x', { namespace: 'mount nine://127.0.0.1:1 /x' })), 'not_found')
    expect(await owner.client.exists('/svc/bad')).toBe(false)
  })

  it('may be itself, and ends as a loop rather than never', async () => {
    const self = await node.serve(giving('self', 'x'))
    await self.namespace.mount('self', '/self')
    await node.serve(defineService('ring', { around: mounted('/svc/ring') }))
    const path = `/svc/ring${'/around'.repeat(100)}`
    await failure(owner.client.stat(path), 'loop')
  })
})

describe('a saved namespace', () => {
  it('with a broken line does not lock its principal out: the rest holds, and the line is shown with why', async () => {
    const ann = await node.connectAs('ann6')
    await ann.client.write('/usr/ann6/real', 'x')
    await ann.client.write('/usr/ann6/namespace', 'mount nothing /nothing\nbind /usr/ann6 /mine\n')
    const next = await node.connectAs('ann6')
    expect(await next.client.readText('/mine/real')).toBe('x')
    const texts = (await next.namespace.entries()).map((entry) => entry.text)
    expect(texts).toContain('bind /usr/ann6 /mine')
    expect(texts.filter((text) => text.startsWith('#'))).toEqual([expect.stringContaining('line 1 (mount nothing /nothing)')])

    await next.client.write('/usr/ann6/namespace', 'neither nor\nbind /usr/ann6 /mine\n')
    const after = await node.connectAs('ann6')
    expect(await after.client.readText('/usr/ann6/real')).toBe('x')
    expect((await after.namespace.entries()).map((entry) => entry.text).at(-1)).toMatch(/^# line 1: "neither"/)

    await after.client.write('/usr/ann6/namespace', Buffer.alloc(5_000_000, '#'))
    const large = await node.connectAs('ann6')
    expect((await large.namespace.entries()).map((entry) => entry.text).at(-1)).toContain('#')
    expect((await node.fetch('/v1/fs/usr/ann6/real', { token: await node.tokenFor('ann6') })).status).toBe(200)
  })

  it('does not lock its principal out either where a directory or a link stands in its place', async () => {
    for (const [name, make] of [
      ['ann8', (session: Session) => session.client.mkdir('/usr/ann8/namespace')],
      ['ann9', (session: Session) => session.client.symlink('/usr/ann9/namespace', '/data')],
    ] as const) {
      const token = await node.tokenFor(name)
      await make(await node.connect({ token }))
      expect((await node.fetch(`/v1/fs/usr/${name}`, { token })).status).toBe(200)
      const next = await node.connect({ token })
      expect((await next.namespace.entries()).map((entry) => entry.text).at(-1)).toMatch(/^# the namespace file is none: .*namespace/)
      await next.client.remove(`/usr/${name}/namespace`)
      await next.namespace.save(`bind /usr/${name} /mine`)
      expect(await (await node.connect({ token })).client.exists('/mine')).toBe(true)
    }
  })

  it('cannot take away the own namespace file for good: binding over it leaves the saved one in the home', async () => {
    const ann = await node.connectAs('ann7')
    await ann.client.mkdir('/usr/ann7/empty')
    await ann.namespace.save('bind /usr/ann7/empty /usr')
    const next = await node.connectAs('ann7')
    expect(await next.client.exists('/usr/ann7/namespace')).toBe(false)
    await next.namespace.save('unmount /usr')
    const after = await node.connectAs('ann7')
    expect(await after.client.exists('/usr/ann7/namespace')).toBe(true)
  })
})

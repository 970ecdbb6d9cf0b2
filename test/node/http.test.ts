/** HTTP at a node with a real store and services of other processes: calls, streams, transactions, watches. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { call, computed, ctl, stream } from '../../namespace/serve/entries.ts'
import { defineService } from '../../sdk/service.ts'
import type { Session } from '../../sdk/session.ts'
import { EventStream } from '../http/event-stream.ts'
import { TestNode } from './running.ts'

let node: TestNode
let owner: Session

beforeAll(async () => {
  node = await TestNode.start()
  owner = await node.connect()
  await node.serve(
    defineService('tools', {
      upper: call((_call, question) => Buffer.from(question).toString().toUpperCase()),
      who: call(({ principal }) => principal.name),
      large: computed(() => Buffer.alloc(2_500_000, 'abcde')),
      three: stream(async function* () {
        yield* ['one\n', 'two\n', 'three\n']
      }),
      ctl: ctl({ add: () => undefined }),
    }),
  )
}, 60_000)

afterAll(() => node.close())

function open(target: string, lastEventId?: string): Promise<EventStream> {
  return EventStream.open(`http://${node.node.http}`, node.token, target, lastEventId)
}

describe('files of a service', () => {
  it('are called: body in, answer out, as who asks, and again under a key without being asked twice', async () => {
    const post = (path: string, body: string, headers = {}, token = node.token): Promise<Response> =>
      node.fetch(`/v1/fs/svc/tools/${path}?call`, { method: 'POST', body, headers, token })
    const answer = await post('upper', 'ask')
    expect([answer.status, await answer.text()]).toEqual([200, 'ASK'])
    expect(await (await post('who', '', {}, await node.tokenFor('zoe'))).text()).toBe('zoe')
    for (let i = 0; i < 2; i++) expect(await (await post('upper', 'once', { 'idempotency-key': 'k' })).text()).toBe('ONCE')
    expect((await post('upper', 'other', { 'idempotency-key': 'k' })).status).toBe(400)
    expect((await post('large', '')).status).toBe(403)
    expect((await post('none', '')).status).toBe(404)
    expect((await node.fetch('/v1/fs/svc/tools/upper')).status).toBe(400)
  })

  it('are streamed until they end, and computed ones come whole whatever their size', async () => {
    expect(await (await node.fetch('/v1/fs/svc/tools/three')).text()).toBe('one\ntwo\nthree\n')
    const large = Buffer.from(await (await node.fetch('/v1/fs/svc/tools/large')).arrayBuffer())
    expect(large.equals(Buffer.alloc(2_500_000, 'abcde'))).toBe(true)
    expect((await node.fetch('/v1/fs/svc/tools/ctl', { method: 'PUT', body: 'add 5' })).status).toBe(200)
    expect((await node.fetch('/v1/fs/svc/tools/ctl', { method: 'PUT', body: 'forget' })).status).toBe(400)
  })
})

describe('a transaction', () => {
  it('takes one branch whole, at one position', async () => {
    const txn = async (body: unknown): Promise<[number, Record<string, unknown>]> => {
      const answer = await node.fetch('/v1/txn', { method: 'POST', body: JSON.stringify(body) })
      return [answer.status, (await answer.json()) as Record<string, unknown>]
    }
    const bytes = Buffer.from('held').toString('base64')
    const take = {
      if: [{ path: '/data/txn/lock', is: 'none' }],
      then: [{ op: 'write', path: '/data/txn/lock', bytes, parents: true }, { op: 'mkdir', path: '/data/txn/dir' }], // prettier-ignore
      else: [{ op: 'read', path: '/data/txn/lock' }],
    }
    expect(await txn(take)).toMatchObject([200, { branch: 'then', results: [{ created: true }, { created: true }] }])
    expect(await txn(take)).toMatchObject([200, { branch: 'else', results: [{ op: 'read', bytes }] }])
    const halves = [{ op: 'write', path: '/data/txn/half', bytes }, { op: 'mkdir', path: '/data/txn/dir' }] // prettier-ignore
    expect(await txn({ then: halves })).toMatchObject([409, { kind: 'exists', outcome: 'none' }])
    expect(await owner.client.exists('/data/txn/half')).toBe(false)
    const apart = [{ op: 'mkdir', path: '/data/txn/a' }, { op: 'mkdir', path: '/usr/owner/b' }] // prettier-ignore
    expect(await txn({ then: apart })).toMatchObject([409, { kind: 'cross_store' }])
  })
})

describe('a watch', () => {
  it('of a slow reader ends as overloaded, and by the last id it goes on without a gap or a repetition', async () => {
    const count = 40_000
    await owner.client.mkdir('/data/slow')
    const begun = await open('/data/slow?watch=recursive')
    begun.response.pause()
    const writes: Promise<unknown>[] = []
    for (let i = 0; i < count; i++) {
      writes.push(owner.client.write(`/data/slow/${i % 50}`, `${i}`))
      if (writes.length === 500) await Promise.all(writes.splice(0))
    }
    await Promise.all(writes)
    begun.response.resume()
    const revisions: number[] = []
    let ends = 0
    let reading = begun
    while (revisions.length < count) {
      const event = await reading.next()
      if (event?.event === 'error') {
        expect(event.data).toMatchObject({ kind: 'overloaded', status: 429 })
        expect(await reading.next()).toBeUndefined()
        ends++
        reading = await open('/data/slow?watch=recursive', event.lastEventId)
      } else revisions.push(event!.data['revision'] as number)
    }
    reading.cut()
    expect(ends).toBeGreaterThanOrEqual(1)
    expect(revisions).toEqual(revisions.map((_, i) => revisions[0]! + i))
  }, 60_000)

  it('and a list show what rights let see, through binds and unions too', async () => {
    await owner.client.mkdir('/data/shared')
    await owner.client.mkdir('/data/shared/open')
    await owner.client.mkdir('/data/shared/secret')
    await owner.client.setRights('/data/shared', [{ who: 'yan', rights: ['list', 'read'] }])
    await owner.client.setRights('/data/shared/secret', [])
    const token = await node.tokenFor('yan')
    const yan = await node.connect({ token })
    await yan.client.mkdir('/usr/yan/mine')
    await yan.namespace.save('bind -a /data/shared /usr/yan/mine')
    for (const top of ['/data/shared', '/n/local/data/shared', '/usr/yan/mine']) {
      const watch = await EventStream.open(`http://${node.node.http}`, token, `${top}?watch=recursive`)
      expect([top, watch.status]).toEqual([top, 200])
      await owner.client.write('/data/shared/secret/hidden', top)
      await owner.client.write('/data/shared/open/seen', top)
      expect((await watch.next())?.data).toMatchObject({ path: `${top}/open/seen` })
      watch.cut()
      const list = await node.fetch(`/v1/fs${top}?list&recursive`, { token })
      const { entries } = (await list.json()) as { entries: { name: string }[] }
      expect(entries.map(({ name }) => name)).not.toContain('secret/hidden')
      expect(entries.map(({ name }) => name)).toContain('open/seen')
      expect((await node.fetch(`/v1/fs${top}/secret/hidden`, { token })).status).toBe(403)
      expect((await node.fetch(`/v1/fs${top}/secret/hidden?at=2100-01-01T00:00:00Z`, { token })).status).not.toBe(200)
    }
  }, 60_000)
})

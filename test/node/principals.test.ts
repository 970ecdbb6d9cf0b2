/** Principals: their tokens, homes and rights, what only the owner may see, and what ends when a token ends. */
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import { computed, stream } from '../../namespace/serve/entries.ts'
import { defineService } from '../../sdk/service.ts'
import type { Session } from '../../sdk/session.ts'
import { Identity } from '../../services/identity/identity.ts'
import { eventually, failure, TestNode } from './running.ts'

let node: TestNode
let owner: Session

beforeAll(async () => {
  node = await TestNode.start()
  owner = await node.connect()
}, 60_000)

afterAll(() => node.close())

/** Files open in the store of all homes. */
async function openHandles(): Promise<number> {
  return (JSON.parse(await owner.client.readText('/sys/stores/usr')) as { handles: number }).handles
}

describe('tokens', () => {
  it('are made, listed and revoked by the owner alone', async () => {
    const { token } = (await owner.control('token.create', { name: 'ann', groups: ['team'] })) as { token: string }
    const ann = await node.connect({ token })
    expect(ann.client.principal).toEqual({ name: 'ann', groups: ['team'] })
    const { principals } = (await owner.control('token.list', undefined)) as { principals: object[] }
    expect(principals).toContainEqual({ name: 'owner', groups: [], isOwner: true })
    expect(principals).toContainEqual({ name: 'ann', groups: ['team'], isOwner: false })
    expect(JSON.stringify(principals)).not.toContain(token)
    for (const name of ['token.create', 'token.list', 'token.revoke', 'store.collect']) {
      await failure(ann.control(name, { name: 'eve' }), 'denied')
    }
    await failure(owner.control('token.create', { name: 'Not A Name' }), 'invalid')
    await failure(owner.control('token.create', { name: 'ok', extra: 1 }), 'invalid')
    await failure(owner.control('token.create', { name: 'owner' }), 'denied')
    await failure(owner.control('token.revoke', { name: 'owner' }), 'denied')
    await failure(owner.control('token.revoke', { name: 'nobody' }), 'not_found')
    await failure(owner.control('no.such', {}), 'unsupported')
    await failure(owner.control('toString', {}), 'unsupported')
  })

  it('are kept over a restart, as hashes', async () => {
    const token = await node.tokenFor('kept')
    expect(await readFile(join(node.data, 'identity', 'principals.json'), 'utf8')).not.toContain(token)
    const owned = node.token
    await node.start(await node.stop())
    expect(node.token).toBe(owned)
    expect((await node.connect({ token })).client.principal.name).toBe('kept')
  })

  it('end at once: requests over HTTP are refused, sessions end, watches and streams over HTTP end', async () => {
    const token = await node.tokenFor('bob')
    const bob = await node.connect({ token })
    const other = await node.connectAs('carol')
    await node.serve(
      defineService('ticks', {
        all: stream(async function* ({ signal }) {
          for (let i = 0; !signal.aborted; i++) {
            yield `${i}\n`
            await new Promise((resolve) => setTimeout(resolve, 20))
          }
        }),
        one: computed(() => '1'),
      }),
    )
    expect((await node.fetch('/v1/fs/usr/bob', { token })).status).toBe(200)
    const overHttp = await node.fetch('/v1/fs/usr/bob?watch=recursive', { token })
    expect(overHttp.status).toBe(200)
    const ticks = await node.fetch('/v1/fs/svc/ticks/all', { token })
    expect(ticks.status).toBe(200)
    const begun = eventually(async () => ((await bob.client.exists('/usr/bob/seen')) ? true : undefined))
    const watching = (async () => {
      for await (const event of bob.client.watch('/usr/bob', { recursive: true })) expect(event.type).toBe('create')
    })()
    const ended = failure(watching, 'unauthenticated')
    await bob.client.write('/usr/bob/seen', '')
    await begun

    await owner.control('token.revoke', { name: 'bob' })
    expect((await node.fetch('/v1/fs/usr/bob', { token })).status).toBe(401)
    await ended
    await failure(bob.client.stat('/'), 'unauthenticated')
    await overHttp.text().catch(() => undefined)
    await ticks.text().catch(() => undefined)
    await failure(node.connect({ token }), 'unauthenticated')
    expect(await other.client.exists('/usr/carol')).toBe(true)
  })

  it('end what waits, and what it had open is let go: a stream that is quiet, a value half sent', async () => {
    const token = await node.tokenFor('fay')
    let isLeft = false
    await node.serve(
      defineService('quiet', {
        all: stream(async function* ({ signal }) {
          yield 'first\n'
          await new Promise((resolve) => signal.addEventListener('abort', resolve))
          isLeft = true
        }),
      }),
    )
    const quiet = await node.fetch('/v1/fs/svc/quiet/all', { token })
    const reader = quiet.body!.getReader()
    expect(Buffer.from((await reader.read()).value).toString()).toBe('first\n')

    let more: ReadableStreamDefaultController<Uint8Array> | undefined
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (more = controller) })
    const sending = node.fetch('/v1/fs/usr/fay/large', { method: 'PUT', body, token, duplex: 'half' })
    more!.enqueue(new Uint8Array(3_000_000))
    await eventually(async () => ((await openHandles()) > 0 ? true : undefined))

    await owner.control('token.revoke', { name: 'fay' })
    await expect(reader.read()).rejects.toThrow()
    await eventually(async () => (isLeft ? true : undefined))
    more!.enqueue(new Uint8Array(100_000))
    expect((await sending).status).toBe(401)
    await eventually(async () => ((await openHandles()) === 0 ? true : undefined))
  })

  it('are replaced by a new one for the same name: what the old one opened ends, the files stay', async () => {
    const old = await node.tokenFor('dora')
    const session = await node.connect({ token: old })
    await session.client.write('/usr/dora/file', 'hers')
    const token = await node.tokenFor('dora')
    await failure(session.client.stat('/'), 'unauthenticated')
    const again = await node.connect({ token })
    expect(await again.client.readText('/usr/dora/file')).toBe('hers')
  })
})

describe('rights', () => {
  it('a home is its principal’s own and nobody else’s, but the owner’s', async () => {
    const ann = await node.connectAs('ann2')
    const ben = await node.connectAs('ben2')
    await ann.client.write('/usr/ann2/secret', 'mine')
    await failure(ben.client.read('/usr/ann2/secret'), 'denied')
    await failure(ben.client.write('/usr/ann2/other', 'x'), 'denied')
    await failure(ben.client.remove('/usr/ann2', { recursive: true }), 'denied')
    await ann.client.setRights('/usr/ann2', [{ who: 'ben2', rights: ['read'] }, { who: 'ann2', rights: ['read', 'write', 'admin'] }]) // prettier-ignore
    expect(await ben.client.readText('/usr/ann2/secret')).toBe('mine')
    expect(await owner.client.readText('/usr/ann2/secret')).toBe('mine')
    await failure(ann.client.write('/data/x', 'x'), 'denied')
  })

  it('a home that was removed is there again for the next session, and its principal’s own', async () => {
    const token = await node.tokenFor('gus')
    await node.connect({ token })
    await owner.client.remove('/usr/gus', { recursive: true })
    const gus = await node.connect({ token })
    await gus.client.write('/usr/gus/again', 'x')
    expect((await owner.client.listAll('/usr')).entries.every(({ name }) => !name.startsWith('.'))).toBe(true)
  })

  it('of the node itself: status, metrics, principals, stores and chunks are the owner’s', async () => {
    const ann = await node.connectAs('ann3')
    expect(await ann.client.readText('/sys/version')).toMatch(/^\d+\.\d+\.\d+\n$/)
    expect(JSON.parse(await ann.client.readText('/sys/whoami'))).toMatchObject({ name: 'ann3' })
    for (const path of ['/sys/status', '/sys/metrics', '/sys/principals', '/sys/stores/data', '/blob/stats']) {
      expect((await owner.client.readText(path)).length, path).toBeGreaterThan(0)
      await failure(ann.client.read(path), 'denied')
    }
    const hash = '0'.repeat(64)
    await failure(ann.client.read(`/blob/chunks/${hash}`), 'denied')
    await failure(owner.client.read(`/blob/chunks/${hash}`), 'not_found')
    expect(await owner.client.readText('/sys/principals')).not.toMatch(/[0-9a-f]{64}/)
  })

  it('goes for a node seen through its own tree as well', async () => {
    const ann = await node.connectAs('ann4')
    await failure(ann.client.read('/n/local/sys/status'), 'denied')
    await failure(ann.client.write('/n/local/data/x', 'x'), 'denied')
  })
})

describe('identity files', () => {
  it('refuses a token file that others may read, and damaged principals; each leaves the folder free', async () => {
    const own = await TestNode.start()
    const { tokenFile } = own.node
    const addresses = await own.stop()
    await chmod(tokenFile, 0o644)
    expect((await failure(own.start(addresses), 'denied')).message).toContain(`chmod 600 ${tokenFile}`)
    await chmod(tokenFile, 0o600)

    const file = join(own.data, 'identity', 'principals.json')
    const kept = await readFile(file, 'utf8')
    for (const damaged of ['', '{', '{"format":2}', kept.replace('"owner"', '"Owner Of It"')]) {
      await writeFile(file, damaged)
      expect((await failure(own.start(addresses), 'corrupt')).message).toContain(file)
    }
    await writeFile(file, kept)
    await writeFile(tokenFile, 'two words')
    expect((await failure(own.start(addresses), 'invalid')).message).toContain(tokenFile)
    await writeFile(tokenFile, '\n')
    await failure(own.start(addresses), 'invalid')
    await writeFile(tokenFile, 'a-token-of-my-own-choice\n')
    await own.start(addresses)
    const session = await own.connect({ token: 'a-token-of-my-own-choice' })
    expect(session.client.principal.name).toBe('owner')
    await own.close()
  })

  it('takes no more principals than it can read again', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'ninefold-identity-'))
    const principals = Array.from({ length: 9_998 }, (_, i) => ({ name: `p${i}`, groups: [], tokenSha256: `${i}` }))
    await writeFile(join(dir, 'principals.json'), JSON.stringify({ format: 1, owner: 'owner', principals }))
    const identity = await Identity.open({ dir, ownerName: 'owner' })
    const { token } = await identity.issue('last')
    await failure(identity.issue('one-more'), 'overloaded')
    await identity.issue('p7')
    const again = await Identity.open({ dir, ownerName: 'owner' })
    expect(again.authenticate(token).name).toBe('last')
    await again.revoke('p8')
    await again.issue('one-more')
    await rm(dir, { recursive: true })
  })

  it('keeps what held where a change cannot be written', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'ninefold-identity-'))
    const identity = await Identity.open({ dir, ownerName: 'owner' })
    const { token } = await identity.issue('ann')
    const principal = identity.authenticate(token)
    const file = join(dir, 'principals.json')
    await rename(file, `${file}.kept`)
    await mkdir(join(file, 'in-the-way'), { recursive: true })
    await failure(identity.issue('ann'), 'internal')
    await failure(identity.issue('bob'), 'internal')
    await failure(identity.revoke('ann'), 'internal')
    expect(identity.authenticate(token)).toBe(principal)
    expect(identity.list().map(({ name }) => name)).toEqual(['owner', 'ann'])
    await rm(dir, { recursive: true })
  })

  it('takes the token of a file that exists as the owner’s', async () => {
    const own = await TestNode.start()
    const addresses = await own.stop()
    const tokenFile = join(own.folder, 'mine')
    await writeFile(tokenFile, 'given-to-the-node-1234', { mode: 0o600 })
    await own.start({ ...addresses, tokenFile })
    expect(own.node.tokenFile).toBe(tokenFile)
    expect(await readFile(tokenFile, 'utf8')).toBe('given-to-the-node-1234')
    const session = await own.connect({ tokenFile, token: undefined })
    expect(session.client.principal).toBeInstanceOf(Object)
    await failure(own.connect({ token: await readFile(join(own.data, 'identity', 'token'), 'utf8') }), 'unauthenticated')
    await own.close()
  })

  it('does not give a principal the owner’s token by a token file that holds theirs', async () => {
    const own = await TestNode.start()
    const theirs = await own.tokenFor('eve')
    const addresses = await own.stop()
    const tokenFile = join(own.folder, 'mine')
    await writeFile(tokenFile, theirs, { mode: 0o600 })
    const error = await own.start({ ...addresses, tokenFile }).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(NineError)
    expect((error as NineError).kind).toBe('invalid')
    await own.close()
  })
})

/** Who gets in over 9P, and as whom. */
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { noFid, noUid } from '../../proto/ninep/messages.ts'
import { guest, owner, startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'
import { RawClient } from './raw-client.ts'

const EPERM = 1
const ENOENT = 2
const EACCES = 13

let dir: string
let edge: TestEdge
let tcp: string
let socket: string

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'nine-9p-auth-'))
  socket = join(dir, 'socket')
  edge = await startEdge({ listeners: [{ address: { host: '127.0.0.1', port: 0 } }, { address: { socket }, trusted: owner }] })
  tcp = edge.edge.addresses[0]!
  await edge.store.write(edge.context(), parsePath('/file'), Buffer.from('x'))
  await edge.store.write(edge.context(), parsePath('/open/inside'), Buffer.from('y'), { parents: true })
  await edge.store.setRights(edge.context(), parsePath('/open'), [{ who: guest.name, rights: ['read', 'list'] }])
})

afterEach(async () => {
  await edge.close()
  rmSync(dir, { recursive: true, force: true })
})

function attach(aname: string, fields: { uname?: string; afid?: number; fid?: number } = {}) {
  return { type: 'Tattach', fid: 0, afid: noFid, uname: 'owner', aname, nUname: 0, ...fields } as const
}

it('lets nobody in without a token, whatever user name they give', async () => {
  const client = await RawClient.open(tcp, '9P2000.L')
  for (const aname of ['/', '', '/data', 'wrong-token@/data', '@/data']) {
    expect(await client.refused(attach(aname))).toBe(EPERM)
  }
  expect(await client.refused({ type: 'Twalk', fid: 0, newFid: 1, names: [] })).not.toBe(0)
  await client.close()
})

it('takes a token before the path of the attach name', async () => {
  const client = await RawClient.open(tcp, '9P2000.L')
  await client.attach(0, 'owners-token@/data')
  await client.walk(0, 1, 'file')
  await client.attach(2, 'guests-token@/data/open', { uname: 'owner' })
  await client.walk(2, 3, 'inside')
  expect(await client.refused(attach('guests-token@/data', { fid: 8 }))).toBe(EACCES)
  await client.attach(4, 'owners-token@')
  await client.walk(4, 5, 'data/file')
  // A path begins with '/', so an '@' in it is no end of a token.
  await edge.store.mkdir(edge.context(), parsePath('/a@b'))
  expect(await client.refused(attach('/data/a@b'))).toBe(EPERM)
  await client.attach(6, 'owners-token@/data/a@b')
  expect(await client.refused(attach('owners-token@/missing', { fid: 9 }))).toBe(ENOENT)
  await client.close()
})

it('takes a token through an authentication file, for the user and tree it was for', async () => {
  const client = await RawClient.open(tcp, '9P2000')
  const auth = (afid: number) => client.ask({ type: 'Tauth', afid, uname: 'who', aname: '/data', nUname: noUid }, 'Rauth')
  expect((await auth(9)).qid.type).toBe(0x08)
  await client.ask({ type: 'Twrite', fid: 9, offset: 0, data: Buffer.from('owners-') }, 'Rwrite')
  expect(await client.refused(attach('/data', { afid: 9, uname: 'who' }))).toBe('authentication failed')
  await client.ask({ type: 'Twrite', fid: 9, offset: 7, data: Buffer.from('token\n') }, 'Rwrite')
  expect(await client.refused(attach('/data', { afid: 9, uname: 'another' }))).toBe('permission denied')
  expect(await client.refused(attach('/', { afid: 9, uname: 'who' }))).toBe('permission denied')
  await client.attach(0, '/data', { afid: 9, uname: 'who' })
  await client.walk(0, 1, 'file')
  await client.clunk(9)
  expect(await client.refused(attach('/data', { afid: 9, uname: 'who', fid: 5 }))).toBe('Invalid argument')
  await auth(9)
  expect(await client.refused({ type: 'Twrite', fid: 9, offset: 0, data: Buffer.alloc(5_000) })).toBe('File too large')
  await client.close()
})

it("needs no token on a Unix socket, which is its owner's alone", async () => {
  expect(statSync(socket).mode & 0o777).toBe(0o600)
  const client = await RawClient.open(socket, '9P2000.L')
  expect(await client.refused({ type: 'Tauth', afid: 9, uname: '', aname: '/', nUname: 0 })).toBe(ENOENT)
  await client.attach(0, '/data')
  await client.walk(0, 1, 'file')
  expect(await client.refused(attach('guests-token@/data', { fid: 8 }))).toBe(EACCES)
  // A path begins with '/', so an '@' in it is no end of a token.
  await edge.store.mkdir(edge.context(), parsePath('/a@b'))
  await client.attach(7, '/data/a@b')
  await client.close()
})

it('takes the place of a socket nobody listens on, and of nothing else', async () => {
  await expect(startEdge({ listeners: [{ address: { socket } }] })).rejects.toMatchObject({ kind: 'unavailable' })
  const file = join(dir, 'file')
  writeFileSync(file, 'precious')
  await expect(startEdge({ listeners: [{ address: { socket: file } }] })).rejects.toMatchObject({ kind: 'unavailable' })
  expect(statSync(file).size).toBe(8)
})

it('says why it cannot listen on a socket, and leaves nothing there', async () => {
  const long = join(dir, 'x'.repeat(110))
  await expect(startEdge({ listeners: [{ address: { socket: long } }] })).rejects.toMatchObject({ kind: 'invalid' })
  const lost = startEdge({ listeners: [{ address: { socket: join(dir, 'none', 'socket') } }] })
  await expect(lost).rejects.toMatchObject({
    kind: 'not_found',
    message: expect.stringContaining(`no folder ${join(dir, 'none')}`) as string,
  })
  expect(readdirSync(dir)).toEqual(['socket'])
})

it('asks for rights as everywhere', async () => {
  const client = await RawClient.open(tcp, '9P2000.L')
  await client.attach(0, 'guests-token@/data/open')
  await client.walk(0, 1, 'inside')
  await client.ask({ type: 'Tlopen', fid: 1, flags: 0 }, 'Rlopen')
  await client.walk(0, 2, 'inside')
  expect(await client.refused({ type: 'Tlopen', fid: 2, flags: 1 })).toBe(EACCES)
  expect(await client.refused({ type: 'Tremove', fid: 2 })).toBe(EACCES)
  expect(await client.refused({ type: 'Tmkdir', dirFid: 0, name: 'x', mode: 0o755, gid: 0 })).toBe(EACCES)
  await client.close()
})

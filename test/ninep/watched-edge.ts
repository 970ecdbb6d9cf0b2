/** What the tests of bad input and of floods share: an edge that is asked after each test whether it serves as ever and nothing is left. */
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, expect } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { noFid, noTag, noUid } from '../../proto/ninep/messages.ts'
import type { Dialect } from '../../proto/ninep/messages.ts'
import type { NinepLimits } from '../../services/9p/limits.ts'
import type { NinepListener } from '../../services/9p/edge.ts'
import { encode } from './arbitraries.ts'
import { startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'
import type { Gate } from './gate.ts'
import { RawClient } from './raw-client.ts'

export let edge: TestEdge
const failures: unknown[] = []
const onFailure = (error: unknown): void => void failures.push(error)

beforeAll(() => {
  process.on('uncaughtException', onFailure)
  process.on('unhandledRejection', onFailure)
})
afterAll(() => {
  process.off('uncaughtException', onFailure)
  process.off('unhandledRejection', onFailure)
})

export async function start(limits: Partial<NinepLimits> = {}, gate?: Gate, listeners?: readonly NinepListener[]): Promise<void> {
  edge = await startEdge({ limits, ...(gate !== undefined && { gate }), ...(listeners !== undefined && { listeners }) })
  await edge.store.write(edge.context(), parsePath('/file'), Buffer.from('content'))
  await edge.store.mkdir(edge.context(), parsePath('/dir'))
  address = edge.address
}

/** Where others are served who need no token. */
let address: string
export function servedAt(at: string): void {
  address = at
}

/** Everybody else is served as ever, nothing is left, and nothing of it was a failure of ours. */
afterEach(async () => {
  const other = await attached('9P2000.L')
  await other.walk(0, 1, 'data/file')
  await other.ask({ type: 'Tlopen', fid: 1, flags: 0 }, 'Rlopen')
  expect((await other.ask({ type: 'Tread', fid: 1, offset: 0, count: 100 }, 'Rread')).data.length).toBe(7)
  await other.close()
  await expect.poll(() => edge.edge.connections, { timeout: 10_000 }).toBe(0)
  expect(edge.store.openHandles).toBe(0)
  await edge.close()
  expect(failures).toEqual([])
})

export async function attached(dialect: Dialect): Promise<RawClient> {
  const client = await RawClient.open(address, dialect)
  await client.attach(0)
  return client
}

export function dial(): Promise<Socket> {
  const at = edge.address.lastIndexOf(':')
  const socket = connect({ port: Number(edge.address.slice(at + 1)), host: edge.address.slice(0, at), allowHalfOpen: false })
  socket.on('error', () => undefined)
  return once(socket, 'connect').then(() => socket)
}

export const version = (dialect: Dialect): Buffer => encode({ tag: noTag, type: 'Tversion', msize: 65_536, version: dialect }, dialect)
export const attach = (dialect: Dialect): Buffer =>
  encode({ tag: 1, type: 'Tattach', fid: 0, afid: noFid, uname: '', aname: '/data', nUname: noUid }, dialect)
export const gone = (socket: Socket): Promise<unknown> => (socket.resume(), socket.destroyed ? Promise.resolve() : once(socket, 'close'))

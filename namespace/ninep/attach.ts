/**
 * How a connection to a 9P server begins: which dialect, who we are, and the root of the tree.
 *
 * B1 9P2000.L is offered first, then 9P2000, where the server answers so, does not know the first, or speaks 9P2000.u only.
 * B2 A token is written to the file of Tauth before the attach. Where the server wants none it is not sent: unless it is asked for, it
 *    never stands in an attach name, which servers put into logs.
 */
import { noFid, noUid } from '../../proto/ninep/messages.ts'
import type { Dialect, WireQid } from '../../proto/ninep/messages.ts'
import type { Clock } from '../clock.ts'
import type { Context } from '../context.ts'
import { isNineError, NineError } from '../errors.ts'
import { limits } from '../limits.ts'
import { NinepConnection } from './connection.ts'
import { dialNinep } from './dial.ts'
import type { NinepAddress } from './dial.ts'
import type { Fid } from './fids.ts'

export interface AttachOptions {
  readonly address: NinepAddress
  /** Which tree; what it means is the server's own. Default ''. */
  readonly aname?: string | undefined
  /** User we say we are. Default `nobody`. */
  readonly uname?: string | undefined
  /** The user as a number, where the server goes by that (9P2000.L). Default: none. */
  readonly uid?: number | undefined
  readonly token?: string | (() => string | Promise<string>) | undefined
  /** How the token is given: written to the file of Tauth (default), or as `TOKEN@` before the attach name. */
  readonly tokenIn?: 'afid' | 'aname' | undefined
  /** Speak this one only. */
  readonly dialect?: Dialect | undefined
  /** Refuse a server of this machine: `denied`. Many let every local program in. */
  readonly noLoopback?: boolean | undefined
  /** Largest message we offer, bytes. */
  readonly msize?: number | undefined
}

/** A connection that is ready for use. */
export interface Attached {
  readonly connection: NinepConnection
  readonly root: Fid
  readonly rootQid: WireQid
}

const msize_min = 4096

/** @throws NineError `unavailable`, `unauthenticated`, `unsupported` for a server that speaks neither dialect, what it answers to attach */
export async function attachNinep(options: AttachOptions, clock: Clock, onClosed: (error: NineError) => void): Promise<Attached> {
  const socket = await dialNinep(options.address, options.noLoopback)
  let isAttached = false
  const connection = new NinepConnection(socket, clock, (error) => {
    if (isAttached) onClosed(error)
  })
  // Nobody but this program waits for these answers.
  const context: Context = { principal: { name: '', groups: [] }, deadline: performance.now() + limits.handshake_ms }
  try {
    await agree(connection, context, options)
    const root = connection.fids.make()
    const rootQid = await attach(connection, context, options, root)
    isAttached = true
    return { connection, root, rootQid }
  } catch (error) {
    connection.close()
    if (isNineError(error, 'deadline')) {
      throw new NineError({ kind: 'unavailable', op: 'ninep.connect', message: 'the 9P server did not answer in time', cause: error })
    }
    throw isNineError(error) ? error.at('', 'ninep.connect') : error
  }
}

/** B1 */
async function agree(connection: NinepConnection, context: Context, options: AttachOptions): Promise<void> {
  const offered: readonly Dialect[] = options.dialect === undefined ? ['9P2000.L', '9P2000'] : [options.dialect]
  const msize = Math.max(msize_min, Math.min(options.msize ?? limits.ninep_client_msize, limits.ninep_client_msize))
  let said = ''
  for (const version of offered) {
    const answer = await connection.ask({ type: 'Tversion', msize, version }, 'Rversion', { context }).catch((error: unknown) => {
      if (isNineError(error, 'unavailable') || isNineError(error, 'deadline')) throw error
      return undefined
    })
    if (answer === undefined) continue
    said = answer.version
    const dialect = offered.find((each) => each === said)
    if (dialect === undefined) continue
    if (answer.msize > msize || answer.msize < msize_min) {
      throw new NineError({ kind: 'unavailable', op: 'ninep.connect', message: `the 9P server answers a message size of ${answer.msize}` })
    }
    return connection.agree(dialect, answer.msize)
  }
  const message = `the server speaks ${JSON.stringify(said.slice(0, 32))}, not ${offered.join(' or ')}`
  throw new NineError({ kind: 'unsupported', op: 'ninep.connect', message })
}

async function attach(connection: NinepConnection, context: Context, options: AttachOptions, root: Fid): Promise<WireQid> {
  const token = typeof options.token === 'function' ? await options.token() : options.token
  const { aname = '', uname = 'nobody', tokenIn = 'afid' } = options
  const user = { uname, nUname: options.uid ?? noUid }
  const afid = token === undefined || tokenIn === 'aname' ? undefined : await authenticate(connection, context, token, { ...user, aname })
  const tree = token !== undefined && tokenIn === 'aname' ? `${token}@${aname}` : aname
  try {
    const { qid } = await connection.ask(
      { type: 'Tattach', fid: root.number, afid: afid?.number ?? noFid, ...user, aname: tree },
      'Rattach',
      { context, makes: root, uses: afid === undefined ? [] : [afid] },
    )
    return qid
  } finally {
    afid?.release()
  }
}

interface AuthName {
  readonly uname: string
  readonly nUname: number
  readonly aname: string
}

/** B2 @returns undefined where the server wants no authentication */
async function authenticate(connection: NinepConnection, context: Context, token: string, name: AuthName): Promise<Fid | undefined> {
  const afid = connection.fids.make()
  try {
    await connection.ask({ type: 'Tauth', afid: afid.number, ...name }, 'Rauth', { context, makes: afid })
  } catch (error) {
    afid.release()
    if (!isNineError(error) || error.kind === 'unavailable' || error.kind === 'deadline') throw error
    return undefined
  }
  const bytes = Buffer.from(token)
  try {
    for (let offset = 0; offset < bytes.length;) {
      const data = bytes.subarray(offset, offset + msize_min / 2)
      const { count } = await connection.ask({ type: 'Twrite', fid: afid.number, offset, data }, 'Rwrite', { context, uses: [afid] })
      if (count === 0 || count > data.length) throw refused()
      offset += count
    }
    return afid
  } catch (error) {
    afid.release()
    throw error
  }
}

function refused(): NineError {
  return new NineError({ kind: 'unauthenticated', op: 'ninep.connect', message: 'the 9P server takes no token' })
}

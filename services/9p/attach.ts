/**
 * Who attaches, and to which tree.
 *
 * A1 A token proves who somebody is: written to an afid, or standing before `@` in the attach name. A user name never does.
 * A2 Without a token nobody gets in, except where the connection itself is proof: see Session.trusted.
 */
import { contextFor } from '../../namespace/context.ts'
import { isNineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { nobody, Owners } from '../../namespace/owners.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import { noFid, noUid } from '../../proto/ninep/messages.ts'
import type { AnswerBody, WireQid } from '../../proto/ninep/messages.ts'
import { refusal } from './failures.ts'
import { Fid } from './fids.ts'
import type { AuthFid, Root } from './fids.ts'
import { plainQid } from './qids.ts'
import type { Operation, Session } from './session.ts'

/** QTAUTH of stat(5). */
const authType = 0x08

export interface AttachOptions {
  /** @throws NineError `unauthenticated` */
  authenticate(token: string | undefined): Principal
  /** The namespace of this principal. */
  namespaceOf(principal: Principal): Promise<FileServer>
}

export type Attach = AttachOptions

export const auth: Operation<'Tauth'> = (session, { afid, uname, aname }) => {
  // "No such file" is how servers say that they need no authentication, and clients then attach without.
  if (session.trusted !== undefined || splitName(aname).token !== undefined) throw refusal('not_found', 'no authentication is needed here')
  checkBytes(uname)
  checkBytes(aname)
  session.fids.addAuth(afid, { uname, aname, token: Buffer.alloc(0) })
  return { type: 'Rauth', qid: { type: authType, version: 0, path: afid } }
}

/** What an authentication keeps before anybody is known. @throws NineError `name_too_long` */
function checkBytes(name: string): void {
  if (Buffer.byteLength(name) > limits.path_bytes_max) throw refusal('name_too_long', `a name has at most ${limits.path_bytes_max} bytes`)
}

/** Take a part of the token. @throws NineError `too_large` */
export function writeAuth(auth: AuthFid, data: Buffer): AnswerBody {
  if (auth.token.length + data.length > limits.ninep_token_bytes_max) throw refusal('too_large', 'that is no token')
  auth.token = Buffer.concat([auth.token, data])
  return { type: 'Rwrite', count: data.length }
}

export const attach: Operation<'Tattach'> = async (session, { fid: id, afid, uname, aname, nUname }, call) => {
  const { token, path } = splitName(aname)
  const principal = principalOf(session, afid, uname, aname, token)
  const reservation = session.fids.reserve(id)
  call.onDrop = () => session.fids.cancel(reservation)
  try {
    const server = await session.shared.attach.namespaceOf(principal)
    const root: Root = { server, principal, path, owners: ownersFor(principal.name, nUname) }
    const { stat, position } = await server.stat({ ...contextFor(principal), signal: call.signal, session: session.number }, path)
    const qid: WireQid = session.shared.qids.of(stat, path, position)
    session.fids.add(new Fid(id, root, path, stat.kind, qid.path), reservation)
    return { type: 'Rattach', qid: session.dialect === '9P2000' ? plainQid(qid) : qid }
  } catch (error) {
    session.fids.cancel(reservation)
    throw error
  }
}

/** Who attached is the user its client says it is (n_uname), else the user this process runs as; so is the group, of which 9P says nothing. */
function ownersFor(name: string, nUname: number): Owners {
  const uid = nUname === noUid ? (process.getuid?.() ?? nobody) : nUname
  return new Owners(name, uid, uid)
}

/** A1, A2 */
function principalOf(session: Session, afid: number, uname: string, aname: string, token: string | undefined): Principal {
  const { attach } = session.shared
  if (afid !== noFid) {
    const auth = session.fids.getAuth(afid)
    if (auth === undefined) throw refusal('invalid', `fid ${afid} is no authentication`)
    if (auth.uname !== uname || auth.aname !== aname) throw refusal('denied', 'that authentication was for another user or tree')
    return authenticate(attach, auth.token.toString().trim())
  }
  if (token !== undefined) return authenticate(attach, token)
  return session.trusted ?? authenticate(attach, undefined)
}

function authenticate(attach: Attach, token: string | undefined): Principal {
  try {
    return attach.authenticate(token)
  } catch (error) {
    if (isNineError(error, 'unauthenticated')) {
      throw refusal('unauthenticated', 'a token is needed: written to the file of Tauth, or as TOKEN@ before the path of the attach name')
    }
    throw error
  }
}

/** `[TOKEN@][PATH]`: a path begins with '/', so nothing of it is taken for a token. */
function splitName(aname: string): { readonly token: string | undefined; readonly path: Path } {
  const at = aname.startsWith('/') ? -1 : aname.indexOf('@')
  const token = at < 0 ? undefined : aname.slice(0, at)
  const text = aname.slice(at + 1)
  return { token, path: parsePath(text.startsWith('/') ? text : `/${text}`, '9p.attach') }
}

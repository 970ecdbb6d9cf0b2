/**
 * Who may talk to this node: principals, and the tokens that prove them. A node alone keeps them in a file of its own. A cluster keeps all
 * but the owner in its store `sys` (shared-principals.ts): each of its nodes has them from there.
 *
 * I1 A token leaves this file once, when it is made; only its SHA-256 is kept, except the owner's own, which stands in the
 *    token file (mode 0600) so that the command line can pick it up.
 * I2 The files are replaced by rename, so a crash leaves the old or the new state, never half of one.
 * I3 Tokens are looked up by their hash, so the time of a refusal tells nothing of how near a guess was.
 * I4 A change that could not be written did not happen: what held before holds on, here as after a restart. In a cluster that may be
 *    unknown, and is said so.
 * I5 The owner is who has the token file, whatever a cluster's records say.
 * I6 A node that does not know a token says that nobody has it only where it knows all there are; else that it is `unavailable`.
 * I7 A token of a cluster is made, or ended, at each node that can be reached when that is answered; the others are named.
 */
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, open, readFile, rename, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { isNineError, NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Principal } from '../../namespace/rights.ts'
import { principalName, principalRecord } from './records.ts'
import type { PrincipalRecord } from './records.ts'
import type { SharedPrincipals } from './shared-principals.ts'

export interface IdentityOptions {
  /** Folder of the node's identity; made with mode 0700. */
  readonly dir: string
  /** Where the owner's token stands; default `DIR/token`. An existing file's token becomes the owner's. */
  readonly tokenFile?: string | undefined
  /** The file has to be there: other nodes have the same. */
  readonly isTokenShared?: boolean | undefined
  /** Name of the owner when the folder is new; a folder that has one keeps it. */
  readonly ownerName: string
}

/** Past it `overloaded`: a file with more would not be read again. */
const principals_max = 10_000

const storedIdentity = z.object({ format: z.literal(1), owner: principalName, principals: z.array(principalRecord).max(principals_max) })

/** Asks the other nodes whether they have heard of a change; names of those that did not say so within `ms`. */
export type TellNodes = (revision: number, ms: number) => Promise<readonly string[]>

/** A change of a principal's token, and the nodes of the cluster that could not be told of it yet. I7 */
export interface TokenChange {
  readonly late: readonly string[]
}

export interface Issued extends TokenChange {
  readonly token: string
}

export class Identity {
  readonly #file: string
  readonly #byHash = new Map<string, PrincipalRecord>()
  readonly #byName = new Map<string, PrincipalRecord>()
  /** Path of the file with the owner's token, absolute. */
  readonly tokenFile: string
  readonly owner: Principal
  /** Called when a token of this principal has ended: what it opened is to end as well. */
  onEnded: (principal: string) => void = () => undefined
  /** Where principals are a cluster's. */
  #cluster: { readonly principals: SharedPrincipals; readonly tell: TellNodes } | undefined
  /** Saves go one after the other, so that the newest state is the last one written. */
  #saved: Promise<void> = Promise.resolve()

  private constructor(file: string, tokenFile: string, owner: PrincipalRecord, others: readonly PrincipalRecord[]) {
    this.#file = file
    this.tokenFile = tokenFile
    this.owner = owner
    for (const one of [owner, ...others]) this.#put(one)
  }

  /**
   * Open or make the identity of a node.
   * @throws NineError `corrupt` for files that are not ours, `denied` for a token file others may read, `not_found` (isTokenShared)
   */
  static async open(options: IdentityOptions): Promise<Identity> {
    const dir = resolve(options.dir)
    const file = join(dir, 'principals.json')
    const tokenFile = resolve(options.tokenFile ?? join(dir, 'token'))
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const stored = await readStored(file)
    const ownerName = stored?.owner ?? principalNameOf(options.ownerName)
    const found = await readToken(tokenFile)
    if (found === undefined && options.isTokenShared === true) throw noSharedToken(tokenFile)
    const token = found ?? (await makeTokenFile(tokenFile))
    const others = (stored?.principals ?? []).filter((one) => one.name !== ownerName)
    const owner: PrincipalRecord = {
      name: ownerName,
      groups: stored?.principals.find((one) => one.name === ownerName)?.groups ?? [],
      tokenSha256: hashOf(token),
    }
    checkOwnersAlone(tokenFile, owner, others)
    const identity = new Identity(file, tokenFile, owner, others)
    await identity.#save()
    return identity
  }

  /** The owner of an existing folder, without opening it; undefined for a new one. @throws NineError `corrupt` */
  static async ownerNameOf(dir: string): Promise<string | undefined> {
    return (await readStored(join(dir, 'principals.json')))?.owner
  }

  /** Those beside the owner. */
  get others(): readonly PrincipalRecord[] {
    return [...this.#byName.values()].filter(({ name }) => name !== this.owner.name)
  }

  /**
   * From now on principals are the cluster's, at all its nodes alike. What this folder kept of them goes: its founder has brought its own
   * along (SharedPrincipals.bring).
   * @throws NineError `invalid`: the token file holds the token of another principal
   */
  async join(principals: SharedPrincipals, tell: TellNodes): Promise<void> {
    this.#cluster = { principals, tell }
    const owner = this.#byName.get(this.owner.name)!
    await principals.open({
      loaded: (all) => {
        checkOwnersAlone(this.tokenFile, owner, all)
        this.#loaded(all)
      },
      changed: (name, record) => this.#changed(name, record),
    })
    await this.#save()
  }

  /** Whether this node has heard of all changes of the cluster's principals up to `revision`, within `ms`. */
  async heardOf(revision: number, ms: number): Promise<boolean> {
    return (await this.#cluster?.principals.heardOf(revision, ms)) ?? false
  }

  /** Hear of the cluster no more. */
  async close(): Promise<void> {
    await this.#cluster?.principals.close()
  }

  /** @throws NineError `unauthenticated` for a token nobody has, or none; `unavailable` (I6) */
  authenticate(token: string | undefined): Principal {
    const op = 'identity.authenticate'
    if (token === undefined || token === '') {
      throw new NineError({ kind: 'unauthenticated', op, message: 'a token is needed: Authorization: Bearer <token>' })
    }
    const known = this.#byHash.get(hashOf(token))
    if (known !== undefined) return known
    if (this.#cluster?.principals.isCurrent === false) {
      const message = 'this node does not know the token, and does not hear of its cluster, which may'
      throw new NineError({ kind: 'unavailable', op, message })
    }
    throw new NineError({ kind: 'unauthenticated', op, message: 'nobody has this token' })
  }

  /** Whether the token that `principal` was authenticated by still holds. */
  isCurrent(principal: Principal): boolean {
    return this.#byName.get(principal.name) === principal
  }

  list(): Principal[] {
    return [...this.#byName.values()].map(({ name, groups }) => ({ name, groups }))
  }

  /**
   * Make a principal and its token, or a new token for one that exists (the old one ends).
   * @throws NineError `invalid` for a bad name, `denied` for the owner, whose token is its file, `overloaded` past the limit; in a cluster
   *   `unavailable`, `deadline` without a majority
   */
  async issue(name: string, groups: readonly string[] = []): Promise<Issued> {
    const op = 'identity.issue'
    const checked = principalName.safeParse(name)
    const checkedGroups = principalRecord.shape.groups.safeParse([...groups])
    if (!checked.success || !checkedGroups.success) {
      const message = (checked.error ?? checkedGroups.error)?.issues[0]?.message ?? 'bad name'
      throw new NineError({ kind: 'invalid', op, message: `${JSON.stringify(name)}: ${message}` })
    }
    this.#refuseOwner(name, op)
    if (!this.#byName.has(name) && this.#byName.size >= principals_max) {
      const message = `there are at most ${principals_max} principals: revoke some`
      throw new NineError({ kind: 'overloaded', op, message })
    }
    const token = newToken()
    const record: PrincipalRecord = { name, groups: [...groups], tokenSha256: hashOf(token) }
    const cluster = this.#cluster
    if (cluster !== undefined) return { token, late: await this.#told(await cluster.principals.put(record).catch(asOf(op))) }
    await this.#replace(name, record)
    return { token, late: [] }
  }

  /** End a principal's token. @throws NineError `not_found`, `denied` for the owner; in a cluster `unavailable`, `deadline` without a majority */
  async revoke(name: string): Promise<TokenChange> {
    const op = 'identity.revoke'
    this.#refuseOwner(name, op)
    const nobody = new NineError({ kind: 'not_found', op, message: `no principal ${JSON.stringify(name)}` })
    const cluster = this.#cluster
    if (cluster === undefined) {
      if (!this.#byName.has(name)) throw nobody
      await this.#replace(name, undefined)
      return { late: [] }
    }
    if (!principalName.safeParse(name).success) throw nobody
    const revision = await cluster.principals.remove(name).catch((error: unknown) => {
      throw isNineError(error, 'not_found') ? nobody : error
    })
    return { late: await this.#told(revision) }
  }

  #refuseOwner(name: string, op: string): void {
    if (name === this.owner.name) {
      throw new NineError({ kind: 'denied', op, message: `${name} owns this node; its token is the file ${this.tokenFile}` })
    }
  }

  /** I7 */
  async #told(revision: number): Promise<readonly string[]> {
    const ms = limits.identity_told_ms
    const [, late] = await Promise.all([this.heardOf(revision, ms), this.#cluster!.tell(revision, ms)])
    return late
  }

  #put(record: PrincipalRecord): void {
    this.#byName.set(record.name, record)
    this.#byHash.set(record.tokenSha256, record)
  }

  #drop(record: PrincipalRecord): void {
    this.#byName.delete(record.name)
    this.#byHash.delete(record.tokenSha256)
  }

  #loaded(all: readonly PrincipalRecord[]): void {
    const names = new Set(all.map(({ name }) => name))
    for (const { name } of this.others) if (!names.has(name)) this.#changed(name, undefined)
    for (const record of all) this.#changed(record.name, record)
  }

  /** Who stands as before goes on as the same. I5 */
  #changed(name: string, record: PrincipalRecord | undefined): void {
    if (name === this.owner.name || record?.tokenSha256 === this.#byName.get(this.owner.name)!.tokenSha256) return
    const before = this.#byName.get(name)
    if (before !== undefined && record !== undefined && isSame(before, record)) return
    if (before !== undefined) this.#drop(before)
    if (record !== undefined) this.#put(record)
    if (before !== undefined) this.onEnded(name)
  }

  /** I4 */
  async #replace(name: string, after: PrincipalRecord | undefined): Promise<void> {
    const before = this.#byName.get(name)
    if (before !== undefined) this.#drop(before)
    if (after !== undefined) this.#put(after)
    try {
      await this.#save()
    } catch (error) {
      // Another change may have come meanwhile.
      if (after !== undefined && this.#byName.get(name) === after) this.#drop(after)
      if (before !== undefined && !this.#byName.has(name)) this.#put(before)
      throw error
    }
    if (before !== undefined) this.onEnded(name)
  }

  /** Of a cluster's principals the file keeps the owner alone. */
  #save(): Promise<void> {
    const write = async (): Promise<void> => {
      const kept = this.#cluster === undefined ? [...this.#byName.values()] : [this.#byName.get(this.owner.name)!]
      const principals = kept.map(({ name, groups, tokenSha256 }) => ({ name, groups, tokenSha256 }))
      await replaceFile(this.#file, JSON.stringify({ format: 1, owner: this.owner.name, principals }, null, 2) + '\n')
    }
    this.#saved = this.#saved.then(write, write)
    return this.#saved
  }
}

/** An operating-system user name as a principal's name. */
export function principalNameOf(userName: string): string {
  const name = userName
    .toLowerCase()
    .replace(/[^a-z0-9._@-]/g, '-')
    .replace(/^[^a-z0-9]+/, '')
    .slice(0, 64)
  return name === '' ? 'owner' : name
}

/** I5 @throws NineError `invalid` */
function checkOwnersAlone(tokenFile: string, owner: PrincipalRecord, others: readonly PrincipalRecord[]): void {
  const shared = others.find(({ name, tokenSha256 }) => name !== owner.name && tokenSha256 === owner.tokenSha256)
  if (shared === undefined) return
  const message = `${tokenFile} holds the token of ${shared.name}, not one of the owner alone; remove it to have one made`
  throw new NineError({ kind: 'invalid', op: 'identity.open', message })
}

function isSame(a: PrincipalRecord, b: PrincipalRecord): boolean {
  return (
    a.tokenSha256 === b.tokenSha256 && a.groups.length === b.groups.length && a.groups.every((group, index) => group === b.groups[index])
  )
}

function asOf(op: string): (error: unknown) => never {
  return (error) => {
    throw error instanceof NineError ? new NineError({ ...error.fields, op, cause: error }) : error
  }
}

function newToken(): string {
  return `nine_${randomBytes(32).toString('base64url')}`
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}

async function readStored(file: string): Promise<z.infer<typeof storedIdentity> | undefined> {
  const text = await readIfThere(file)
  if (text === undefined) return undefined
  try {
    return storedIdentity.parse(JSON.parse(text))
  } catch (cause) {
    const message = `${file} is damaged; restore it, or remove it to keep only the owner's token (other principals then need new ones)`
    throw new NineError({ kind: 'corrupt', op: 'identity.open', message, cause })
  }
}

async function readToken(file: string): Promise<string | undefined> {
  const text = await readIfThere(file)
  if (text === undefined) return undefined
  const { mode } = await stat(file)
  if ((mode & 0o077) !== 0) {
    const message = `others may read the token file ${file}; run: chmod 600 ${file}`
    throw new NineError({ kind: 'denied', op: 'identity.open', message })
  }
  const token = text.trim()
  if (!/^[\x21-\x7e]{16,512}$/.test(token)) {
    const message = `${file} holds no token: one line of 16 to 512 printable characters; remove it to have one made`
    throw new NineError({ kind: 'invalid', op: 'identity.open', message })
  }
  return token
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    const kind = code === 'ENOTDIR' || code === 'EISDIR' ? 'invalid' : 'denied'
    throw new NineError({ kind, op: 'identity.open', message: `cannot read ${file}: ${(error as Error).message}`, cause: error })
  }
}

function noSharedToken(file: string): NineError {
  const message = `there is no ${file}: the nodes of a cluster have one token file, which is written once, by hand, and named with --token-file at each`
  return new NineError({ kind: 'not_found', op: 'identity.open', message })
}

async function makeTokenFile(file: string): Promise<string> {
  const token = newToken()
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  await replaceFile(file, token)
  return token
}

/** Write `text` to `file` with mode 0600, durable before it takes the name. */
async function replaceFile(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}.new`
  try {
    const handle = await open(temporary, 'w', 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await chmod(temporary, 0o600)
    await rename(temporary, file)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const kind =
      code === 'ENOSPC' ? 'no_space' : code === 'EROFS' ? 'read_only' : code === 'EACCES' || code === 'EPERM' ? 'denied' : 'internal'
    throw new NineError({ kind, op: 'identity.save', message: `cannot write ${file}: ${(error as Error).message}`, cause: error })
  }
}

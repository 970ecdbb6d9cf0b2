/**
 * Who may talk to this node: principals, and the tokens that prove them.
 *
 * I1 A token leaves this file once, when it is made; only its SHA-256 is kept, except the owner's own, which stands in the
 *    token file (mode 0600) so that the command line can pick it up.
 * I2 The files are replaced by rename, so a crash leaves the old or the new state, never half of one.
 * I3 Tokens are looked up by their hash, so the time of a refusal tells nothing of how near a guess was.
 * I4 A change that could not be written did not happen: what held before holds on, here as after a restart.
 */
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, open, readFile, rename, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { NineError } from '../../namespace/errors.ts'
import type { Principal } from '../../namespace/rights.ts'

export interface IdentityOptions {
  /** Folder of the node's identity; made with mode 0700. */
  readonly dir: string
  /** Where the owner's token stands; default `DIR/token`. An existing file's token becomes the owner's. */
  readonly tokenFile?: string | undefined
  /** Name of the owner when the folder is new; a folder that has one keeps it. */
  readonly ownerName: string
}

/** Past it `overloaded`: a file with more would not be read again. */
const principals_max = 10_000

const principalName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._@-]{0,63}$/, 'a name is 1 to 64 of a-z 0-9 . _ @ - and starts with a letter or digit')
const storedPrincipal = z.object({ name: principalName, groups: z.array(principalName).max(64), tokenSha256: z.string() })
const storedIdentity = z.object({ format: z.literal(1), owner: principalName, principals: z.array(storedPrincipal).max(principals_max) })

interface Known extends Principal {
  readonly tokenSha256: string
}

export class Identity {
  readonly #file: string
  readonly #byHash = new Map<string, Known>()
  /** Path of the file with the owner's token, absolute. */
  readonly tokenFile: string
  readonly owner: Principal
  /** Saves go one after the other, so that the newest state is the last one written. */
  #saved: Promise<void> = Promise.resolve()

  private constructor(file: string, tokenFile: string, owner: Principal, known: readonly Known[]) {
    this.#file = file
    this.tokenFile = tokenFile
    this.owner = owner
    for (const one of known) this.#byHash.set(one.tokenSha256, one)
  }

  /**
   * Open or make the identity of a node.
   * @throws NineError `corrupt` for files that are not ours, `denied` for a token file others may read
   */
  static async open(options: IdentityOptions): Promise<Identity> {
    const dir = resolve(options.dir)
    const file = join(dir, 'principals.json')
    const tokenFile = resolve(options.tokenFile ?? join(dir, 'token'))
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const stored = await readStored(file)
    const ownerName = stored?.owner ?? principalNameOf(options.ownerName)
    const token = (await readToken(tokenFile)) ?? (await makeTokenFile(tokenFile))
    const others = (stored?.principals ?? []).filter((one) => one.name !== ownerName)
    const owner: Known = {
      name: ownerName,
      groups: stored?.principals.find((one) => one.name === ownerName)?.groups ?? [],
      tokenSha256: hashOf(token),
    }
    const shared = others.find((one) => one.tokenSha256 === owner.tokenSha256)
    if (shared !== undefined) {
      const message = `${tokenFile} holds the token of ${shared.name}, not one of the owner alone; remove it to have one made`
      throw new NineError({ kind: 'invalid', op: 'identity.open', message })
    }
    const identity = new Identity(file, tokenFile, owner, [owner, ...others])
    await identity.#save()
    return identity
  }

  /** The owner of an existing folder, without opening it; undefined for a new one. @throws NineError `corrupt` */
  static async ownerNameOf(dir: string): Promise<string | undefined> {
    return (await readStored(join(dir, 'principals.json')))?.owner
  }

  /** @throws NineError `unauthenticated` for a token nobody has, or none */
  authenticate(token: string | undefined): Principal {
    const known = token === undefined || token === '' ? undefined : this.#byHash.get(hashOf(token))
    if (known !== undefined) return known
    const message = token === undefined || token === '' ? 'a token is needed: Authorization: Bearer <token>' : 'nobody has this token'
    throw new NineError({ kind: 'unauthenticated', op: 'identity.authenticate', message })
  }

  /** Whether the token that `principal` was authenticated by still holds. */
  isCurrent(principal: Principal): boolean {
    for (const known of this.#byHash.values()) if (known === principal) return true
    return false
  }

  list(): Principal[] {
    return [...this.#byHash.values()].map(({ name, groups }) => ({ name, groups }))
  }

  /**
   * Make a principal and its token, or a new token for one that exists (the old one ends).
   * @throws NineError `invalid` for a bad name, `denied` for the owner, whose token is its file, `overloaded` past the limit
   */
  async issue(name: string, groups: readonly string[] = []): Promise<string> {
    const checked = storedPrincipal.shape.name.safeParse(name)
    const checkedGroups = storedPrincipal.shape.groups.safeParse([...groups])
    if (!checked.success || !checkedGroups.success) {
      const message = (checked.error ?? checkedGroups.error)?.issues[0]?.message ?? 'bad name'
      throw new NineError({ kind: 'invalid', op: 'identity.issue', message: `${JSON.stringify(name)}: ${message}` })
    }
    this.#refuseOwner(name, 'identity.issue')
    const before = this.#find(name)
    if (before === undefined && this.#byHash.size >= principals_max) {
      const message = `a node has at most ${principals_max} principals: revoke some`
      throw new NineError({ kind: 'overloaded', op: 'identity.issue', message })
    }
    const token = newToken()
    await this.#replace(before, { name, groups: [...groups], tokenSha256: hashOf(token) })
    return token
  }

  /** End a principal's token. @throws NineError `not_found`, `denied` for the owner */
  async revoke(name: string): Promise<void> {
    this.#refuseOwner(name, 'identity.revoke')
    const known = this.#find(name)
    if (known === undefined)
      throw new NineError({ kind: 'not_found', op: 'identity.revoke', message: `no principal ${JSON.stringify(name)}` })
    await this.#replace(known, undefined)
  }

  #refuseOwner(name: string, op: string): void {
    if (name === this.owner.name) {
      throw new NineError({ kind: 'denied', op, message: `${name} owns this node; its token is the file ${this.tokenFile}` })
    }
  }

  #find(name: string): Known | undefined {
    for (const known of this.#byHash.values()) if (known.name === name) return known
    return undefined
  }

  /** I4 */
  async #replace(before: Known | undefined, after: Known | undefined): Promise<void> {
    if (before !== undefined) this.#byHash.delete(before.tokenSha256)
    if (after !== undefined) this.#byHash.set(after.tokenSha256, after)
    try {
      await this.#save()
    } catch (error) {
      if (after !== undefined) this.#byHash.delete(after.tokenSha256)
      if (before !== undefined && this.#find(before.name) === undefined) this.#byHash.set(before.tokenSha256, before)
      throw error
    }
  }

  #save(): Promise<void> {
    const write = async (): Promise<void> => {
      const principals = [...this.#byHash.values()].map(({ name, groups, tokenSha256 }) => ({ name, groups, tokenSha256 }))
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

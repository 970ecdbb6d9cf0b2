/**
 * What a Namespace should do, as naively as can be said: trees of maps, a list of mounts, a walk that looks at one name
 * after the other. Nothing here is shared with the real thing.
 */

/** Text of a file, or the names of a directory. */
export type Tree = string | Map<string, Tree>
export interface ModelChannel {
  readonly server: number
  readonly path: readonly string[]
}
export interface ModelMember extends ModelChannel {
  readonly create: boolean
  readonly original: boolean
}
export type Order = 'replace' | 'before' | 'after'

/** Why something failed. `missing` stands for not_found and not_directory. */
export class ModelError extends Error {
  readonly kind: string
  constructor(kind: string) {
    super(kind)
    this.kind = kind
  }
}

const fail = (kind: string): never => {
  throw new ModelError(kind)
}

export class ModelNamespace {
  readonly trees: readonly Tree[]
  heads: { readonly key: ModelChannel; readonly members: readonly ModelMember[] }[] = []

  constructor(trees: readonly Tree[]) {
    this.trees = trees
  }

  fork(): ModelNamespace {
    const forked = new ModelNamespace(this.trees)
    forked.heads = [...this.heads]
    return forked
  }

  /** The node of a tree; undefined when missing, 'file above' when the path goes through a file. */
  #node({ server, path }: ModelChannel): Tree | undefined | { above: true } {
    let node: Tree | undefined = this.trees[server]
    for (const name of path) {
      if (node === undefined) return undefined
      if (typeof node === 'string') return { above: true }
      node = node.get(name)
    }
    return node
  }

  #headAt({ server, path }: ModelChannel): readonly ModelMember[] | undefined {
    return this.heads.find(({ key }) => key.server === server && key.path.join('/') === path.join('/'))?.members
  }

  #headsBelow({ server, path }: ModelChannel, orAt: boolean): boolean {
    return this.heads.some(
      ({ key }) =>
        key.server === server && key.path.length >= path.length + (orAt ? 0 : 1) && path.every((name, i) => key.path[i] === name),
    )
  }

  #has(channel: ModelChannel): boolean {
    if (this.#headsBelow(channel, true)) return true
    const node = this.#node(channel)
    if (typeof node === 'object' && 'above' in node) return fail('missing')
    return node !== undefined
  }

  /** The channels a path stands for. A name in no member of a union: `absent` decides. */
  look(path: readonly string[], absent: (members: readonly ModelMember[], rest: number) => ModelChannel): readonly ModelChannel[] {
    let at: readonly ModelChannel[] = this.#headAt({ server: 0, path: [] }) ?? [{ server: 0, path: [] }]
    path.forEach((name, i) => {
      const children = at.map((member) => ({ server: member.server, path: [...member.path, name] }))
      let child = children[0]!
      if (at.length > 1) {
        const found = children.find((candidate) => this.#has(candidate))
        if (found !== undefined) child = found
        else {
          const chosen = absent(at as readonly ModelMember[], path.length - 1 - i)
          child = { server: chosen.server, path: [...chosen.path, name] }
        }
      }
      at = this.#headAt(child) ?? [child]
    })
    return at
  }

  /** The one channel an operation acts on. */
  #one(path: readonly string[], isMade: boolean): ModelChannel {
    const channels = this.look(path, (members, rest) => {
      if (!isMade || rest > 0) return fail('missing')
      return members.find((member) => member.create) ?? fail('read_only')
    })
    if (channels.length === 1) return channels[0]!
    const present = channels.find((channel, i) => i === channels.length - 1 || this.#headsBelow(channel, false) || this.#isThere(channel))
    return present!
  }

  #isThere(channel: ModelChannel): boolean {
    const node = this.#node(channel)
    if (typeof node === 'object' && 'above' in node) return fail('missing')
    return node !== undefined
  }

  #existing(channel: ModelChannel): Tree {
    const node = this.#node(channel)
    if (node === undefined || (typeof node === 'object' && 'above' in node)) return fail('missing')
    return node
  }

  list(path: readonly string[]): string[] {
    const channels = this.look(path, () => fail('missing'))
    const names = new Set<string>()
    let found = 0
    for (const channel of channels) {
      const node = this.#node(channel)
      const isAbove = this.#headsBelow(channel, false)
      if (!isAbove && node !== undefined && !(node instanceof Map)) fail('missing')
      if (!isAbove && node === undefined) continue
      found++
      for (const name of node instanceof Map ? node.keys() : []) names.add(name)
      for (const { key } of this.heads) {
        if (key.server === channel.server && this.#isBelow(key.path, channel.path)) names.add(key.path[channel.path.length]!)
      }
    }
    if (found === 0) fail('missing')
    return [...names].sort()
  }

  #isBelow(path: readonly string[], above: readonly string[]): boolean {
    return path.length > above.length && above.every((name, i) => path[i] === name)
  }

  /** Every path below, in pre-order, and what it is. Too deep to have an end: `loop`. */
  tree(path: readonly string[], found: string[] = [], depth = 0): string[] {
    if (depth > 60) fail('loop')
    for (const name of this.list(path)) {
      const below = [...path, name]
      const kind = this.kind(below)
      found.push(`${below.join('/')} ${kind}`)
      if (kind === 'directory') this.tree(below, found, depth + 1)
    }
    return found
  }

  kind(path: readonly string[]): 'file' | 'directory' {
    const channel = this.#one(path, false)
    if (this.#headsBelow(channel, false)) return 'directory'
    return typeof this.#existing(channel) === 'string' ? 'file' : 'directory'
  }

  read(path: readonly string[]): string {
    const channel = this.#one(path, false)
    if (this.#headsBelow(channel, false)) fail('is_directory')
    const node = this.#existing(channel)
    return typeof node === 'string' ? node : fail('is_directory')
  }

  write(path: readonly string[], text: string): void {
    const channel = this.#one(path, true)
    if (this.#headsBelow(channel, false)) fail('is_directory')
    if (channel.path.length === 0) fail('is_directory')
    const parent = this.#existing({ ...channel, path: channel.path.slice(0, -1) })
    if (typeof parent === 'string') return fail('missing')
    const name = channel.path.at(-1)!
    if (parent.get(name) instanceof Map) fail('is_directory')
    parent.set(name, text)
  }

  mkdir(path: readonly string[]): void {
    const channel = this.#one(path, true)
    if (channel.path.length === 0) fail('exists')
    const parent = this.#existing({ ...channel, path: channel.path.slice(0, -1) })
    if (typeof parent === 'string') return fail('missing')
    const name = channel.path.at(-1)!
    if (parent.has(name)) fail('exists')
    parent.set(name, new Map())
  }

  remove(path: readonly string[]): void {
    const covered = path.length === 0 ? undefined : this.#headAt(this.#covered(path, true))
    if (covered !== undefined) fail('conflict')
    const channel = this.#one(path, false)
    if (this.#headsBelow(channel, false)) fail('conflict')
    const node = this.#existing(channel)
    if (node instanceof Map && node.size > 0) fail('not_empty')
    const parent = this.#existing({ ...channel, path: channel.path.slice(0, -1) }) as Map<string, Tree>
    parent.delete(channel.path.at(-1)!)
  }

  #covered(path: readonly string[], mustExist = false): ModelChannel {
    if (path.length === 0) return { server: 0, path: [] }
    const parents = this.look(path.slice(0, -1), (members) => (mustExist ? fail('missing') : members[0]!))
    const children = parents.map((parent) => ({ server: parent.server, path: [...parent.path, path.at(-1)!] }))
    if (children.length === 1) return children[0]!
    return children.find((child) => this.#has(child)) ?? (mustExist ? fail('missing') : children[0]!)
  }

  mount(server: number, at: readonly string[], order: Order, create: boolean): void {
    this.#cover([{ server, path: [], create, original: false }], at, order)
  }

  bind(from: readonly string[], at: readonly string[], order: Order, create: boolean): void {
    const kind = this.kind(from)
    if (order !== 'replace' && kind === 'file') fail('missing')
    const channels = this.look(from, () => fail('missing'))
    const members = channels.map(({ server, path, ...rest }) => {
      const may = channels.length === 1 || ('create' in rest && rest.create === true)
      return { server, path, create: create && may, original: false }
    })
    this.#cover(members, at, order)
  }

  #cover(members: readonly ModelMember[], at: readonly string[], order: Order): void {
    const key = this.#covered(at)
    const node = this.#node(key)
    if (typeof node === 'object' && 'above' in node) fail('missing')
    if (order !== 'replace' && typeof node === 'string') fail('missing')
    const old = this.#headAt(key) ?? [{ ...key, create: false, original: true }]
    const next = order === 'replace' ? members : order === 'before' ? [...members, ...old] : [...old, ...members]
    this.#setHead(key, next)
  }

  unmount(at: readonly string[]): void {
    const key = this.#covered(at)
    if (this.#headAt(key) === undefined) fail('missing')
    this.#setHead(key, [])
  }

  #setHead(key: ModelChannel, members: readonly ModelMember[]): void {
    this.heads = this.heads.filter((head) => !(head.key.server === key.server && head.key.path.join('/') === key.path.join('/')))
    if (members.length > 0) this.heads = [...this.heads, { key, members }]
  }
}

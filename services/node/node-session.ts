/**
 * One session of a principal: its own fork of the node's namespace, begun from the principal's saved file, and what it may
 * ask of the node beside files.
 *
 * N1 The table lives here, on the node; nothing a client sends is resolved against anything else.
 * N2 What belongs to the session ends with it: services it registered, connections it made, handles.
 * N3 A session whose principal's token has ended does nothing more.
 */
import type { Context } from '../../namespace/context.ts'
import { NineError, textOf } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import type { Namespace } from '../../namespace/namespace.ts'
import { applyNamespaceFile, parseNamespaceFile, printNamespaceFile } from '../../namespace/namespace-file.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Tell } from '../../namespace/remote/handshake.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { BindRequest, DeregisterRequest, RegisterRequest, SessionControl, UnmountRequest } from '../../namespace/wire/control.ts'
import type { LiveService, Services } from '../svc/services.ts'
import type { ClusterNews, Follower } from './cluster-news.ts'
import type { Controls } from './controls.ts'
import type { Homes, SavedNamespace } from './homes.ts'
import type { Sources } from './sources.ts'

export interface NodeSessionParts {
  readonly namespace: Namespace
  /** What the edge calls: the namespace, observed. */
  readonly server: FileServer
  readonly principal: Principal
  readonly services: Services
  readonly homes: Homes
  readonly sources: Sources
  readonly controls: Controls
  /** Of a node of a cluster. */
  readonly news?: ClusterNews | undefined
  /** Aborted with the reason when nothing may be done in this session any more; `server` heeds it. */
  readonly ended: AbortController
  readonly onClose: () => void
}

export class NodeSession implements SessionControl {
  readonly server: FileServer
  readonly #parts: NodeSessionParts
  readonly #services = new Map<string, LiveService>()
  /** What of the saved namespace file did not work, with the line's number. */
  readonly problems: string[] = []
  #follower: Follower | undefined
  #isClosed = false

  constructor(parts: NodeSessionParts) {
    this.#parts = parts
    this.server = parts.server
  }

  get principal(): Principal {
    return this.#parts.principal
  }

  /** Do what a namespace file says; a line that fails is noted and the rest goes on. */
  async begin(context: Context, { text, problem }: SavedNamespace): Promise<void> {
    const { namespace, sources } = this.#parts
    if (problem !== undefined) this.problems.push(problem)
    try {
      const lines = parseNamespaceFile(text)
      await applyNamespaceFile(
        context,
        lines,
        namespace,
        (source) => sources.resolve(source, true),
        (error) => this.problems.push(error.message),
      )
    } catch (error) {
      this.problems.push(textOf(error))
    }
  }

  async bind(context: Context, { source, path, order, create }: BindRequest): Promise<void> {
    this.#check()
    await this.#parts.namespace.bind(context, parsePath(source, 'node.bind'), path, { order, create })
    this.#follower?.tell()
  }

  async mount(context: Context, { source, path, order, create }: BindRequest): Promise<void> {
    const { namespace, sources } = this.#parts
    this.#check()
    await namespace.mount(context, await sources.resolve(source), path, { order, create, source })
    this.#follower?.tell()
  }

  async unmount(context: Context, { path, source }: UnmountRequest): Promise<void> {
    await this.#parts.namespace.unmount(context, path, source)
    this.#follower?.tell()
  }

  /** Tell the client how the node's cluster stands, now and at each change. */
  follow(tell: Tell): void {
    if (!this.#isClosed) this.#follower = this.#parts.news?.follow(this.#parts.namespace, tell)
  }

  /** Lines of a namespace file that make this table, and, as comments, what of the saved file failed. */
  async entries(): Promise<readonly string[]> {
    const lines = printNamespaceFile(this.#parts.namespace.entries()).split('\n').slice(0, -1)
    return [...lines, ...this.problems.map((problem) => `# ${problem.replaceAll('\n', ' ')}`)]
  }

  /** Register the process at the other end as a service. What the service mounts from others is mounted in this session. */
  async register(context: Context, fields: RegisterRequest, server: FileServer): Promise<string> {
    const { namespace, sources, services, principal } = this.#parts
    this.#check()
    const lines = parseNamespaceFile(fields.namespace)
    await applyNamespaceFile(context, lines, namespace, (source) => sources.resolve(source))
    this.#follower?.tell()
    const live = await services.register(fields, principal, server)
    if (this.#isClosed) {
      await live.deregister()
      throw new NineError({ kind: 'unavailable', op: 'node.register', message: 'the session ended meanwhile' })
    }
    this.#services.set(`${fields.service}@${live.instance}`, live)
    return live.instance
  }

  async deregister(_context: Context, { service, instance }: DeregisterRequest): Promise<void> {
    const key = `${service}@${instance}`
    const live = this.#services.get(key)
    if (live === undefined) throw new NineError({ kind: 'not_found', op: 'node.deregister', message: `this session serves no ${key}` })
    this.#services.delete(key)
    await live.deregister()
  }

  /** The table is this session's own from the start. */
  async fork(): Promise<void> {}

  async control(_context: Context, name: string, body: Uint8Array): Promise<Uint8Array> {
    let value: unknown
    try {
      value = body.length === 0 ? undefined : JSON.parse(Buffer.from(body).toString())
    } catch (cause) {
      throw new NineError({ kind: 'invalid', op: 'node.control', message: `the body of ${name} is not JSON`, cause })
    }
    return Buffer.from(JSON.stringify((await this.#run(name, value)) ?? null))
  }

  async #run(name: string, value: unknown): Promise<unknown> {
    const { homes, services, controls, principal } = this.#parts
    this.#check()
    switch (name) {
      case 'namespace.save':
        return homes.save(principal, textField(value, 'line'))
      case 'service.renew':
        return { isListed: await this.#renew(textField(value, 'service'), textField(value, 'instance')) }
      case 'service.store': {
        return services.makeStore(textField(value, 'service'), principal)
      }
      default:
        return controls.run(principal, name, value)
    }
  }

  /** Another takes over: what is under way goes on, with the connections that the other has now. */
  retire(): void {
    this.#isClosed = true
    this.#follower?.close()
    this.#parts.onClose()
  }

  /** Refuse everything from now on, also what waits, and close. */
  end(reason: NineError): Promise<void> {
    this.#parts.ended.abort(reason)
    return this.close()
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#follower?.close()
    this.#parts.onClose()
    await Promise.all([...this.#services.values()].map((live) => live.deregister()))
    await this.#parts.sources.close()
  }

  /** @throws NineError why the session is over */ // N3
  #check(): void {
    if (this.#parts.ended.signal.aborted) throw this.#parts.ended.signal.reason
  }

  async #renew(service: string, instance: string): Promise<boolean> {
    return (await this.#services.get(`${service}@${instance}`)?.renew()) ?? false
  }
}

/** @throws NineError `invalid` */
export function textField(value: unknown, name: string): string {
  const text = (value as Record<string, unknown> | null | undefined)?.[name]
  if (typeof text !== 'string') throw new NineError({ kind: 'invalid', op: 'node.control', message: `${name} is a text` })
  return text
}

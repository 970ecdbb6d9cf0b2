/**
 * A FileServer over the HTTP edge, as small as one can be: what a stranger would write from the README with fetch alone.
 * It exists so that the conformance suite runs over HTTP.
 */
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { ErrorKind, NineErrorFields } from '../../namespace/errors.ts'
import type {
  ConditionOptions,
  CreateOptions,
  FileServer,
  IfMatch,
  ListOptions,
  ListResult,
  MutationResult,
  ReadOptions,
  ReadRangeOptions,
  ReadResult,
  ReadlinkResult,
  RemoveOptions,
  RenameOptions,
  RightsResult,
  StatChanges,
  StatResult,
  TxnOperation,
  TxnRequest,
  TxnResult,
  WatchBatch,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from '../../namespace/file-server.ts'
import { formatEtag } from '../../services/http/params.ts'
import { formatTime, parseTime } from '../../namespace/json.ts'
import type { StatJson } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { pathComponents } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { decodePosition, encodePosition } from '../../namespace/position.ts'
import type { RightsRecord } from '../../namespace/rights.ts'
import type { Stat } from '../../namespace/stat.ts'

type Params = Record<string, string | number | boolean | undefined>

export class HttpFileServer implements FileServer {
  readonly #origin: string
  readonly #tokenOf: (principal: string) => string

  /** @param origin `http://HOST:PORT` */
  constructor(origin: string, tokenOf: (principal: string) => string) {
    this.#origin = origin
    this.#tokenOf = tokenOf
  }

  async stat(context: Context, path: Path, options?: ReadOptions): Promise<StatResult> {
    const response = await this.#send(context, 'GET', path, { stat: true, ...reading(options) })
    return { stat: statOf((await response.json()) as StatJson), position: positionOf(response) }
  }

  async list(context: Context, path: Path, options: ListOptions = {}): Promise<ListResult> {
    const { after, cursor, limit, recursive, prefix } = options
    const response = await this.#send(context, 'GET', path, { list: true, after, cursor, limit, recursive, prefix, ...reading(options) })
    const page = (await response.json()) as { entries: StatJson[]; next: string | null; position: string }
    return { entries: page.entries.map(statOf), next: page.next ?? undefined, position: decodePosition(page.position) }
  }

  async read(context: Context, path: Path, options: ReadRangeOptions = {}): Promise<ReadResult> {
    const { offset = 0, length } = options
    if (!isCount(offset) || (length !== undefined && !isCount(length))) {
      throw new NineError({ kind: 'invalid', op: 'http.read', path, message: 'a range is of whole numbers from 0' })
    }
    const headers: Record<string, string> = {}
    if (offset > 0 || length !== undefined)
      headers['range'] = `bytes=${offset}-${length === undefined ? '' : offset + Math.max(length, 1) - 1}`
    const response = await this.#fetch(context, 'GET', path, reading(options), { headers })
    if (response.status === 416) {
      await response.body?.cancel()
      return { bytes: new Uint8Array(), ...(await this.stat(context, path, options)) }
    }
    await check(response, path)
    const whole = new Uint8Array(await response.arrayBuffer())
    const position = positionOf(response)
    // The stat of what was read, not of what came since.
    const { stat } = await this.stat(context, path, { at: position })
    if (stat.kind === 'directory') throw new NineError({ kind: 'is_directory', op: 'http.read', path, message: 'a directory' })
    const bytes = response.status === 206 ? whole : whole.subarray(offset)
    return { bytes: bytes.subarray(0, length ?? limits.read_bytes_max), stat, position }
  }

  write(context: Context, path: Path, bytes: Uint8Array, options: WriteOptions = {}): Promise<MutationResult> {
    const { at, ttlMs, lease, contentType, parents, mode, modifiedAt, mustExist } = options
    // PUT always makes parents; what it cannot say goes as a transaction.
    if (parents !== true || mode !== undefined || modifiedAt !== undefined || mustExist === true) {
      return this.#one(context, { op: 'write', path, bytes, options })
    }
    const params = {
      append: at === 'append' || undefined,
      offset: typeof at === 'number' ? at : undefined,
      ttl: ttlMs && `${ttlMs}ms`,
      lease,
    }
    return this.#change(context, 'PUT', path, params, options, bytes, contentType === undefined ? {} : { 'content-type': contentType })
  }

  create(context: Context, path: Path, options?: CreateOptions): Promise<MutationResult> {
    return this.#one(context, { op: 'create', path, options })
  }

  mkdir(context: Context, path: Path, options: CreateOptions = {}): Promise<MutationResult> {
    const { parents, ...others } = options
    const isPlain = parents === true && Object.values(others).every((value) => value === undefined)
    return isPlain ? this.#change(context, 'POST', path, { mkdir: true }, options) : this.#one(context, { op: 'mkdir', path, options })
  }

  symlink(context: Context, path: Path, target: string, options: CreateOptions = {}): Promise<MutationResult> {
    const { parents, ...others } = options
    const isPlain = parents === true && Object.values(others).every((value) => value === undefined)
    return isPlain
      ? this.#change(context, 'PUT', path, { symlink: target }, options)
      : this.#one(context, { op: 'symlink', path, target, options })
  }

  async readlink(context: Context, path: Path, options?: ReadOptions): Promise<ReadlinkResult> {
    const { stat, position } = await this.stat(context, path, options)
    if (stat.target === undefined) throw new NineError({ kind: 'invalid', op: 'http.readlink', path, message: 'no symbolic link' })
    return { target: stat.target, position }
  }

  async remove(context: Context, path: Path, options: RemoveOptions = {}): Promise<MutationResult> {
    // The answer to a DELETE does not say what the file was, and of a retry it cannot be asked before.
    if (context.client !== undefined) return this.#one(context, { op: 'remove', path, options })
    const { stat, position } = await this.stat(context, path).catch(() => ({ stat: undefined, position: [] }))
    const response = await this.#send(
      context,
      'DELETE',
      path,
      { recursive: options.recursive },
      { headers: condition(options.ifMatch, position) },
    )
    const qid = stat?.qid ?? { type: 0, path: 0, version: 0 }
    return { qid, revision: Number(response.headers.get('nine-revision')), created: false, size: 0, position: positionOf(response) }
  }

  rename(context: Context, from: Path, to: Path, options: RenameOptions = {}): Promise<MutationResult> {
    if (options.parents !== true) return this.#one(context, { op: 'rename', path: from, to, options })
    return this.#change(context, 'POST', from, { rename: to, replace: options.replace }, options)
  }

  setStat(context: Context, path: Path, changes: StatChanges, options: ConditionOptions = {}): Promise<MutationResult> {
    const body = JSON.stringify(changesToJson(changes))
    return this.#change(context, 'PATCH', path, {}, options, Buffer.from(body), { 'content-type': 'application/json' })
  }

  async txn(context: Context, request: TxnRequest): Promise<TxnResult> {
    const response = await this.#post(context, '/v1/txn', {
      if: request.if,
      then: request.then.map(operationToJson),
      else: request.else.map(operationToJson),
    })
    const answer = (await response.json()) as { branch: 'then' | 'else'; results: Record<string, unknown>[]; position: string }
    return { branch: answer.branch, results: answer.results.map(operationResultOf), position: decodePosition(answer.position) }
  }

  watch(context: Context, path: Path, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    const stop = new AbortController()
    const signal = context.signal === undefined ? stop.signal : AbortSignal.any([context.signal, stop.signal])
    const batches = this.#batches({ ...context, deadline: Infinity, signal }, path, options)
    const iterator: AsyncIterableIterator<WatchBatch> = {
      [Symbol.asyncIterator]: () => iterator,
      next: () => batches.next(),
      return: () => {
        stop.abort()
        return Promise.resolve({ done: true, value: undefined })
      },
    }
    return iterator
  }

  async *#batches(context: Context, path: Path, options: WatchOptions): AsyncGenerator<WatchBatch, void> {
    const { from, recursive, previous } = options
    const start = from === undefined || typeof from === 'number' ? from : encodePosition(from)
    const params = { watch: recursive === true ? 'recursive' : '', from: start, previous }
    let text = ''
    const decoder = new TextDecoder()
    try {
      const response = await this.#send(context, 'GET', path, params)
      for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
        text += decoder.decode(part, { stream: true })
        for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
          const batch = batchOf(text.slice(0, end), path)
          text = text.slice(end + 2)
          if (batch !== undefined) yield batch
        }
      }
    } catch (error) {
      if (context.signal?.aborted !== true) throw error
    }
  }

  async getRights(context: Context, path: Path): Promise<RightsResult> {
    const response = await this.#send(context, 'GET', path, { rights: true })
    const answer = (await response.json()) as Omit<RightsResult, 'position'>
    return { ...answer, position: positionOf(response) }
  }

  setRights(context: Context, path: Path, record: RightsRecord | undefined, options: ConditionOptions = {}): Promise<MutationResult> {
    if (record === undefined) return this.#change(context, 'DELETE', path, { rights: true }, options)
    return this.#change(context, 'PUT', path, { rights: true }, options, Buffer.from(JSON.stringify(record)))
  }

  grantLease = refuse
  renewLease = refuse
  revokeLease = refuse
  lock = refuse
  open = refuse
  readHandle = refuse
  writeHandle = refuse
  truncateHandle = refuse
  statHandle = refuse
  syncHandle = refuse
  closeHandle = refuse

  /** One operation as a transaction of its own. */
  async #one(context: Context, operation: TxnOperation): Promise<MutationResult> {
    const { results } = await this.txn(context, { if: [], then: [operation], else: [] })
    const [first] = results
    if (first?.op !== 'mutation') throw new Error('a transaction without its result')
    return first.result
  }

  async #change(
    context: Context,
    method: string,
    path: Path,
    params: Params,
    { ifMatch }: ConditionOptions,
    body?: Uint8Array,
    headers: Record<string, string> = {},
  ): Promise<MutationResult> {
    const position = ifMatch === undefined || ifMatch === 'none' ? [] : await this.stat(context, path).then((found) => found.position, () => []) // prettier-ignore
    const response = await this.#send(context, method, path, params, { body, headers: { ...headers, ...condition(ifMatch, position) } })
    return mutationOf((await response.json()) as Record<string, unknown>)
  }

  async #post(context: Context, target: string, body: unknown): Promise<Response> {
    const response = await this.#request(context, 'POST', `${this.#origin}${target}`, { body: Buffer.from(JSON.stringify(body)) })
    await check(response, '')
    return response
  }

  async #send(context: Context, method: string, path: Path, params: Params, init?: Init): Promise<Response> {
    const response = await this.#fetch(context, method, path, params, init)
    await check(response, path)
    return response
  }

  #fetch(context: Context, method: string, path: Path, params: Params, init?: Init): Promise<Response> {
    const query = Object.entries(params)
      .filter(([, value]) => value !== undefined && value !== false)
      .map(([name, value]) => (value === true || value === '' ? name : `${name}=${encodeURIComponent(String(value))}`))
    const target = pathComponents(path).map(encodeURIComponent).join('/')
    return this.#request(context, method, `${this.#origin}/v1/fs/${target}${query.length > 0 ? `?${query.join('&')}` : ''}`, init)
  }

  async #request(context: Context, method: string, url: string, { body, headers = {} }: Init = {}): Promise<Response> {
    const { principal, client, seq, deadline, signal } = context
    const sent: Record<string, string> = { authorization: `Bearer ${this.#tokenOf(principal.name)}`, ...headers }
    if (client !== undefined && seq !== undefined) sent['idempotency-key'] = `${client.id}:${seq}`
    if (deadline !== Infinity) sent['nine-timeout'] = String(Math.max(0, Math.round(deadline - performance.now())))
    try {
      return await fetch(url, {
        method,
        body: body as Uint8Array<ArrayBuffer> | undefined,
        signal: signal ?? null,
        headers: sent,
      })
    } catch (cause) {
      const kind: ErrorKind = signal?.aborted === true ? 'deadline' : 'unavailable'
      throw new NineError({ kind, op: 'http.request', message: String(cause), cause })
    }
  }
}

interface Init {
  readonly body?: Uint8Array | undefined
  readonly headers?: Record<string, string>
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

function refuse(): Promise<never> {
  return Promise.reject(new NineError({ kind: 'unsupported', op: 'http.request', message: 'HTTP has no such request' }))
}

async function check(response: Response, path: string): Promise<void> {
  if (response.ok) return
  const text = await response.text()
  const problem = (text === '' ? { kind: 'internal', detail: String(response.status) } : JSON.parse(text)) as Record<string, unknown>
  const { kind, op, detail, outcome, retryable, resume } = problem
  const message = typeof detail === 'string' ? detail : ''
  throw new NineError({ kind, op, path: problem['path'] ?? path, message, outcome, retryable, resume } as NineErrorFields)
}

function reading(options: ReadOptions = {}): Params {
  const { consistency, minPosition, at } = options
  return {
    consistency,
    min_position: minPosition === undefined ? undefined : encodePosition(minPosition),
    at: at === undefined ? undefined : typeof at === 'number' ? formatTime(at) : encodePosition(at),
  }
}

function condition(ifMatch: IfMatch | undefined, position: ReturnType<typeof decodePosition>): Record<string, string> {
  if (ifMatch === undefined) return {}
  if (ifMatch === 'none') return { 'if-none-match': '*' }
  const qid = { type: 0, path: ifMatch.path, version: ifMatch.version }
  return { 'if-match': formatEtag(position[0], qid) ?? '"never"' }
}

function positionOf(response: Response): ReturnType<typeof decodePosition> {
  return decodePosition(response.headers.get('nine-position') ?? '-')
}

function statOf(json: StatJson): Stat {
  return {
    ...json,
    size: json.size,
    createdAt: parseTime(json.createdAt, 'test'),
    modifiedAt: parseTime(json.modifiedAt, 'test'),
  }
}

function mutationOf(json: Record<string, unknown>): MutationResult {
  const { qid, revision, created, size } = json as unknown as MutationResult
  return { qid, revision, created, size, position: decodePosition(json['position'] as string) }
}

function operationToJson(operation: TxnOperation): Record<string, unknown> {
  const { options, ...rest } = operation as Extract<TxnOperation, { op: 'write' }>
  const bytes = operation.op === 'write' ? Buffer.from(operation.bytes).toString('base64') : undefined
  const json: Record<string, unknown> = { ...rest, ...options, bytes }
  if (options?.modifiedAt !== undefined) json['modifiedAt'] = formatTime(options.modifiedAt)
  if (operation.op === 'setStat') json['changes'] = changesToJson(operation.changes)
  return json
}

function changesToJson(changes: StatChanges): Record<string, unknown> {
  const { modifiedAt } = changes
  return { ...changes, modifiedAt: modifiedAt === undefined ? undefined : formatTime(modifiedAt) }
}

function operationResultOf(json: Record<string, unknown>): TxnResult['results'][number] {
  if (json['op'] === 'mutation') return { op: 'mutation', result: mutationOf(json) }
  const stat = statOf(json['stat'] as StatJson)
  return json['op'] === 'stat' ? { op: 'stat', stat } : { op: 'read', stat, bytes: Buffer.from(json['bytes'] as string, 'base64') }
}

function batchOf(block: string, path: Path): WatchBatch | undefined {
  const field = (name: string): string | undefined =>
    block
      .split('\n')
      .find((line) => line.startsWith(`${name}: `))
      ?.slice(name.length + 2)
  const id = field('id')
  const data = field('data')
  if (field('event') === 'error') {
    const problem = JSON.parse(data!) as { kind: ErrorKind; detail: string; resume?: string; path?: string }
    throw new NineError({
      kind: problem.kind,
      op: 'http.watch',
      path: problem.path ?? path,
      message: problem.detail,
      resume: problem.resume,
    })
  }
  if (data === undefined) return id === undefined ? undefined : { events: [], position: decodePosition(id) }
  const json = JSON.parse(data) as Record<string, unknown>
  const event = {
    ...json,
    subtree: json['subtree'] === true,
    stat: statOf(json['stat'] as StatJson),
    previous: json['previous'] === undefined ? undefined : statOf(json['previous'] as StatJson),
    time: parseTime(json['time'] as string, 'test'),
    position: decodePosition(json['position'] as string),
  } as unknown as WatchEvent
  return { events: [event], position: id === undefined ? event.position : decodePosition(id) }
}

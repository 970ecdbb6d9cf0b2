/** Session control: what a client says to its node beside file operations, and the messages of it. */
import type { Reader, Writer } from '../../proto/protobuf.ts'
import { frameType } from '../../proto/frames.ts'
import type { Context } from '../context.ts'
import type { FileServer } from '../file-server.ts'
import type { Path } from '../path.ts'
import { B, F, readPath, refuseField, required, V } from './fields.ts'
import type { ContextReader } from './context.ts'
import type { Messages } from './operation.ts'
import { ownBytes } from './reads.ts'
import type { ClientName } from './session.ts'

/** What a node offers to each of its sessions. The table is the session's own. Failures are NineErrors; what is missing is `unsupported`. */
export interface SessionControl {
  /** Show at `path` what is at `source`, a path of this namespace. */
  bind?(context: Context, request: BindRequest): Promise<void>
  /** Show at `path` a service, `nine://HOST:PORT/PATH` or `9p://HOST:PORT`. */
  mount?(context: Context, request: BindRequest): Promise<void>
  unmount?(context: Context, request: UnmountRequest): Promise<void>
  /** Lines of a namespace file that make the table again. */
  entries?(context: Context): Promise<readonly string[]>
  /** From now on the table is this session's alone. */
  fork?(context: Context): Promise<void>
  /** Offer a service of the client's process. `service` ends with the session. @returns the instance's name */
  register?(context: Context, request: RegisterRequest, service: FileServer): Promise<string>
  deregister?(context: Context, request: DeregisterRequest): Promise<void>
  /** Anything else, by name; bodies are JSON by convention. */
  control?(context: Context, name: string, body: Uint8Array): Promise<Uint8Array>
  /** A further client identity. */
  identify?(): ClientName
}

export interface BindRequest {
  readonly source: string
  readonly path: Path
  readonly order: 'replace' | 'before' | 'after'
  readonly create: boolean
}

export interface UnmountRequest {
  /** Undefined: everything at `path`. */
  readonly source: string | undefined
  readonly path: Path
}

export interface RegisterRequest {
  readonly service: string
  /** Undefined: the node chooses one. */
  readonly instance: string | undefined
  /** Top-level names that the process serves. */
  readonly names: readonly string[]
  /** Text of the service's namespace file. */
  readonly namespace: string
  /** Number by which operations for the service name it; not 0. */
  readonly target: number
}

export interface DeregisterRequest {
  readonly service: string
  readonly instance: string
}

export interface ControlRequest {
  readonly name: string
  readonly body: Uint8Array
}

const orders = ['replace', 'before', 'after'] as const

function bindMessages(type: number, name: string): Messages<BindRequest, void> {
  return {
    type,
    name,
    repeat: 'never',
    writeArgs(writer, request) {
      writer.string(2, request.source)
      writer.string(3, request.path)
      writer.uint(4, orders.indexOf(request.order))
      writer.bool(5, request.create)
    },
    readArgs(reader, context) {
      let source = ''
      let path: Path | undefined
      let order: BindRequest['order'] = 'replace'
      let create = false
      for (let key = reader.next(); key !== 0; key = reader.next()) {
        if (key === B.f1) context.read(reader)
        else if (key === B.f2) source = reader.string()
        else if (key === B.f3) path = readPath(reader, `wire.${name}`)
        else if (key === V.f4) order = required(orders[reader.uint()], 'known order')
        else if (key === V.f5) create = reader.bool()
        else refuseField(key)
      }
      return { source, path: required(path, 'path'), order, create }
    },
    writeResult: writeNothing,
    readResult: readNothing,
  }
}

export const bindRequest = bindMessages(frameType.bind, 'bind')
export const mountRequest = bindMessages(frameType.mount, 'mount')

export const unmountRequest: Messages<UnmountRequest, void> = {
  type: frameType.unmount,
  name: 'unmount',
  repeat: 'never',
  writeArgs(writer, request) {
    writer.optionalString(2, request.source)
    writer.string(3, request.path)
  },
  readArgs(reader, context) {
    let source: string | undefined
    let path: Path | undefined
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) source = reader.string()
      else if (key === B.f3) path = readPath(reader, 'wire.unmount')
      else refuseField(key)
    }
    return { source, path: required(path, 'path') }
  },
  writeResult: writeNothing,
  readResult: readNothing,
}

export const entriesRequest: Messages<undefined, readonly string[]> = {
  type: frameType.entries,
  name: 'entries',
  repeat: 'again',
  writeArgs: writeNothing,
  readArgs: readContextOnly,
  writeResult(writer, lines) {
    for (const line of lines) writer.optionalString(1, line)
  },
  readResult(reader) {
    const lines: string[] = []
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) lines.push(reader.string())
      else reader.skip(key)
    }
    return lines
  },
}

export const forkRequest: Messages<undefined, void> = {
  type: frameType.fork,
  name: 'fork',
  repeat: 'never',
  writeArgs: writeNothing,
  readArgs: readContextOnly,
  writeResult: writeNothing,
  readResult: readNothing,
}

export const registerRequest: Messages<RegisterRequest, string> = {
  type: frameType.register,
  name: 'register',
  repeat: 'never',
  writeArgs(writer, request) {
    writer.string(2, request.service)
    writer.optionalString(3, request.instance)
    for (const name of request.names) writer.optionalString(4, name)
    writer.string(5, request.namespace)
    writer.uint(6, request.target)
  },
  readArgs(reader, context) {
    let service = ''
    let instance: string | undefined
    const names: string[] = []
    let namespace = ''
    let target = 0
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) service = reader.string()
      else if (key === B.f3) instance = reader.string()
      else if (key === B.f4) names.push(reader.string())
      else if (key === B.f5) namespace = reader.string()
      else if (key === V.f6) target = reader.uint()
      else refuseField(key)
    }
    return { service, instance, names, namespace, target: required(target === 0 ? undefined : target, 'target') }
  },
  writeResult: (writer, instance) => writer.string(1, instance),
  readResult(reader) {
    let instance = ''
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) instance = reader.string()
      else reader.skip(key)
    }
    return instance
  },
}

export const deregisterRequest: Messages<DeregisterRequest, void> = {
  type: frameType.deregister,
  name: 'deregister',
  repeat: 'never',
  writeArgs(writer, request) {
    writer.string(2, request.service)
    writer.string(3, request.instance)
  },
  readArgs(reader, context) {
    let service = ''
    let instance = ''
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) service = reader.string()
      else if (key === B.f3) instance = reader.string()
      else refuseField(key)
    }
    return { service, instance }
  },
  writeResult: writeNothing,
  readResult: readNothing,
}

export const controlRequest: Messages<ControlRequest, Uint8Array> = {
  type: frameType.control,
  name: 'control',
  repeat: 'never',
  writeArgs(writer, request) {
    writer.string(2, request.name)
    writer.bytes(3, request.body)
  },
  readArgs(reader, context) {
    let name = ''
    let body: Uint8Array = noBytes
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) name = reader.string()
      else if (key === B.f3) body = reader.bytes()
      else refuseField(key)
    }
    return { name, body }
  },
  writeResult: (writer, body) => writer.lastBytes(1, body),
  readResult(reader) {
    let body: Uint8Array = noBytes
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) body = ownBytes(reader.bytes())
      else reader.skip(key)
    }
    return body
  },
}

export const identifyRequest: Messages<undefined, ClientName> = {
  type: frameType.identify,
  name: 'identify',
  repeat: 'again',
  writeArgs: writeNothing,
  readArgs: readContextOnly,
  writeResult(writer, client) {
    writer.string(1, client.id)
    writer.fixed(2, client.born)
  },
  readResult(reader) {
    let id = ''
    let born = 0
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) id = reader.string()
      else if (key === F.f2) born = reader.fixed()
      else reader.skip(key)
    }
    return { id, born }
  },
}

const noBytes = new Uint8Array(0)

function writeNothing(_writer: Writer): void {
  return undefined
}

function readNothing(_reader: Reader): void {
  return undefined
}

function readContextOnly(reader: Reader, context: ContextReader): undefined {
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) context.read(reader)
    else refuseField(key)
  }
}

/** Messages that open, keep and end a session. */
import { WireError } from '../../proto/protobuf.ts'
import type { Reader, Writer } from '../../proto/protobuf.ts'
import type { NineError } from '../errors.ts'
import { limits } from '../limits.ts'
import { parsePath } from '../path.ts'
import type { Path } from '../path.ts'
import type { Principal } from '../rights.ts'
import type { Micros } from '../stat.ts'
import { B, F, readError, refuseField, V, writeError } from './fields.ts'

export const protocolVersion = 1

/** What one side takes from the other. */
export interface SessionLimits {
  readonly frameBytes: number
  /** Requests under way at once. */
  readonly requests: number
  readonly requestBytes: number
}

export const ownLimits: SessionLimits = {
  frameBytes: limits.frame_bytes_max,
  requests: limits.session_requests_max,
  requestBytes: limits.session_request_bytes_max,
}

/** A client as Welcome names it. */
export interface ClientName {
  readonly id: string
  readonly born: Micros
}

export interface Hello {
  readonly version: number
  readonly features: readonly string[]
  readonly limits: SessionLimits
  /** '' where the transport carries it. */
  readonly token: string
  readonly name: string
  /** Undefined on a client's first connection. */
  readonly client: ClientName | undefined
}

export interface Welcome {
  readonly version: number
  readonly features: readonly string[]
  readonly limits: SessionLimits
  readonly session: string
  readonly client: ClientName
  readonly principal: Principal
  readonly name: string
  /** Which cluster the node is of, or which data where it is alone; '': it does not say. */
  readonly cluster: string
}

/** A client that has this feature is told of the node's cluster. */
export const clusterFeature = 'cluster'

/** How its cluster stands, as a node knows. */
export interface ClusterState {
  readonly roots: readonly RootState[]
  readonly nodes: readonly NodeAddress[]
}

/** A path at and below which the session finds one replicated store, the same on all nodes. */
export interface RootState {
  readonly path: Path
  /** Name of the node that leads it; '': none is known. */
  readonly leader: string
  /** In which it leads: of two nodes that name different leaders, the one that knows of the later term is right. */
  readonly term: number
}

export interface NodeAddress {
  readonly name: string
  /** Where it listens for clients. */
  readonly address: string
}

export function writeHello(writer: Writer, hello: Hello): void {
  writer.uint(1, hello.version)
  for (const feature of hello.features) writer.optionalString(2, feature)
  writeLimits(writer, hello.limits)
  writer.string(4, hello.token)
  writer.string(5, hello.name)
  if (hello.client === undefined) return
  writer.string(6, hello.client.id)
  writer.fixed(7, hello.client.born)
}

/** Fields it does not know belong to later versions: skipped. */
export function readHello(reader: Reader): Hello {
  let version = 0
  const features: string[] = []
  let taken = ownLimits
  let token = ''
  let name = ''
  let id = ''
  let born = 0
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === V.f1) version = reader.uint()
    else if (key === B.f2) features.push(reader.string())
    else if (key === B.f3) taken = readLimits(reader)
    else if (key === B.f4) token = reader.string()
    else if (key === B.f5) name = reader.string().slice(0, name_chars_max)
    else if (key === B.f6) id = readClientId(reader)
    else if (key === F.f7) born = reader.fixed()
    else reader.skip(key)
  }
  return { version, features, limits: taken, token, name, client: id === '' ? undefined : { id, born } }
}

const name_chars_max = 255

function readClientId(reader: Reader): string {
  const id = reader.string()
  if (!/^[\x21-\x7e]{0,128}$/.test(id)) throw new WireError('the id of a client is at most 128 printable characters')
  return id
}

export function writeWelcome(writer: Writer, welcome: Welcome): void {
  writer.uint(1, welcome.version)
  for (const feature of welcome.features) writer.optionalString(2, feature)
  writeLimits(writer, welcome.limits)
  writer.string(4, welcome.session)
  writer.string(5, welcome.client.id)
  writer.fixed(6, welcome.client.born)
  writer.string(7, welcome.principal.name)
  for (const group of welcome.principal.groups) writer.optionalString(8, group)
  writer.string(9, welcome.name)
  writer.string(10, welcome.cluster)
}

export function readWelcome(reader: Reader): Welcome {
  let version = 0
  const features: string[] = []
  let taken = ownLimits
  let session = ''
  let id = ''
  let born = 0
  let principal = ''
  const groups: string[] = []
  let name = ''
  let cluster = ''
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === V.f1) version = reader.uint()
    else if (key === B.f2) features.push(reader.string())
    else if (key === B.f3) taken = readLimits(reader)
    else if (key === B.f4) session = reader.string()
    else if (key === B.f5) id = readClientId(reader)
    else if (key === F.f6) born = reader.fixed()
    else if (key === B.f7) principal = reader.string()
    else if (key === B.f8) groups.push(reader.string())
    else if (key === B.f9) name = reader.string()
    else if (key === B.f10) cluster = reader.string()
    else reader.skip(key)
  }
  return { version, features, limits: taken, session, client: { id, born }, principal: { name: principal, groups }, name, cluster }
}

function writeLimits(writer: Writer, taken: SessionLimits): void {
  const begun = writer.begin(3)
  writer.uint(1, taken.frameBytes)
  writer.uint(2, taken.requests)
  writer.uint(3, taken.requestBytes)
  writer.end(begun)
}

function readLimits(reader: Reader): SessionLimits {
  let frameBytes = 0
  let requests = 0
  let requestBytes = 0
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === V.f1) frameBytes = reader.uint()
    else if (key === V.f2) requests = reader.uint()
    else if (key === V.f3) requestBytes = reader.uint()
    else reader.skip(key)
  }
  reader.leave(outer)
  if (frameBytes === 0 || requests === 0 || requestBytes === 0) throw new WireError('a limit of the session is missing')
  return { frameBytes, requests, requestBytes }
}

/** Payload of credit and ping: one number. */
export function readNumber(reader: Reader): number {
  let value = 0
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === V.f1) value = reader.uint()
    else refuseField(key)
  }
  return value
}

/** Payload of goaway: why, when it is not a plain drain. */
export function writeGoaway(writer: Writer, error: NineError | undefined): void {
  if (error === undefined) return
  const begun = writer.begin(1)
  writeError(writer, error)
  writer.end(begun)
}

export function readGoaway(reader: Reader): NineError | undefined {
  let error: NineError | undefined
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) {
      const outer = reader.enter()
      error = readError(reader)
      reader.leave(outer)
    } else reader.skip(key)
  }
  return error
}

export function writeClusterState(writer: Writer, { roots, nodes }: ClusterState): void {
  for (const { path, leader, term } of roots) writeEntry(writer, 1, path, leader, term)
  for (const { name, address } of nodes) writeEntry(writer, 2, name, address, 0)
}

/** Fields it does not know belong to later versions: skipped. */
export function readClusterState(reader: Reader): ClusterState {
  const roots: RootState[] = []
  const nodes: NodeAddress[] = []
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key !== B.f1 && key !== B.f2) {
      reader.skip(key)
      continue
    }
    const [first, second, term] = readEntry(reader)
    if (key === B.f1) roots.push({ path: parsePath(first, 'wire.cluster'), leader: second, term })
    else nodes.push({ name: first, address: second })
    if (roots.length + nodes.length > told_max) throw new WireError('too much is told of a cluster')
  }
  return { roots, nodes }
}

const told_max = 256

function writeEntry(writer: Writer, field: number, first: string, second: string, third: number): void {
  const begun = writer.begin(field)
  writer.string(1, first)
  writer.string(2, second)
  writer.uint(3, third)
  writer.end(begun)
}

function readEntry(reader: Reader): [string, string, number] {
  let first = ''
  let second = ''
  let third = 0
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) first = reader.string()
    else if (key === B.f2) second = reader.string()
    else if (key === V.f3) third = reader.uint()
    else reader.skip(key)
  }
  reader.leave(outer)
  return [first, second, third]
}

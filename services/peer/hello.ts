/**
 * What two nodes say before anything else, and who is let in.
 *
 *   dialler   PeerPacket{hello}            who it is, whom it means, what it speaks, 32 random bytes
 *   listener  PeerPacket{welcome, proof}   who it is, the version spoken from here on, 32 random bytes
 *   dialler   PeerPacket{proof}            and items behind it
 *
 * A proof is HMAC-SHA256 under the cluster's secret over a label of the side, the call's name, and the hello and the welcome as they
 * were sent. So who does not know the secret is found out on either side, and nobody's proof serves anybody else.
 * It tells who is there when the connection is made; against who can change a connection that is there only TLS helps.
 *
 * H1 Nothing but the hello is read of a dialler, and nothing is told to the node, before the proof was right.
 * H2 Which version is spoken is a function of the two ranges: the highest in both.
 * H3 Features, and fields of a hello, that are not known are left alone.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { Reader, WireError, Writer, bytesKey, varintKey } from '../../proto/protobuf.ts'
import type { NodeId } from '../../raft/model.ts'

export interface VersionRange {
  readonly min: number
  readonly max: number
}

/** What this release speaks. A release raises `max` when it changes what is said, and `min` a release later. */
export const versions: VersionRange = { min: 1, max: 1 }

export interface Hello {
  readonly versions: VersionRange
  readonly features: readonly string[]
  /** '' for a node that is in no cluster yet. */
  readonly cluster: string
  readonly from: NodeId
  /** '' for whoever is there. */
  readonly to: NodeId
  /** Where the dialler listens, `HOST:PORT`. */
  readonly address: string
  readonly nonce: Uint8Array
}

export interface Welcome {
  readonly version: number
  readonly features: readonly string[]
  readonly cluster: string
  readonly member: NodeId
  readonly nonce: Uint8Array
}

/** One message of the stream. */
export interface Opening {
  readonly hello?: Buffer | undefined
  readonly welcome?: Buffer | undefined
  readonly proof?: Buffer | undefined
}

export const nonce_bytes = 32
const features_max = 64

/** H2. @returns undefined when there is none */
export function commonVersion(a: VersionRange, b: VersionRange): number | undefined {
  const version = Math.min(a.max, b.max)
  return version < Math.max(a.min, b.min) ? undefined : version
}

/** Why a node `self` of `cluster` does not take this dialler as one of its cluster; undefined when it does. */
export function refusalOf(
  hello: Hello,
  self: { readonly member: NodeId; readonly cluster: string; readonly versions: VersionRange },
): string | undefined {
  const { from, to, cluster } = hello
  const versionText = versionRefusal(hello, self)
  if (versionText !== undefined) return versionText
  if (self.cluster === '') return `${self.member} is starting; ${from} is in cluster ${cluster}`
  if (cluster !== self.cluster) return `${from} is of cluster ${cluster || '(none)'}, ${self.member} of cluster ${self.cluster}`
  if (to !== self.member) return `${from} means ${to}, but ${self.member} is here: the node was replaced, or an address is wrong`
  if (from === self.member) return `${from} has dialled itself`
  return undefined
}

export function versionRefusal(
  hello: Pick<Hello, 'from' | 'versions'>,
  self: { readonly member: NodeId; readonly versions: VersionRange },
): string | undefined {
  if (commonVersion(hello.versions, self.versions) !== undefined) return undefined
  return `${hello.from} speaks versions ${rangeText(hello.versions)}, ${self.member} ${rangeText(self.versions)}: they have none in common`
}

function rangeText({ min, max }: VersionRange): string {
  return min === max ? `${min} only` : `${min} to ${max}`
}

export function proofOf(secret: string, side: 'dialler' | 'listener', call: string, hello: Uint8Array, welcome: Uint8Array): Buffer {
  const hmac = createHmac('sha256', secret)
  for (const part of [`ninefold peer ${side}`, call, hello, welcome]) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : part
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    hmac.update(length).update(bytes)
  }
  return hmac.digest()
}

export function isProof(given: Uint8Array | undefined, expected: Uint8Array): boolean {
  return given !== undefined && given.length === expected.length && timingSafeEqual(given, expected)
}

export function encodeHello(hello: Hello): Buffer {
  const writer = new Writer()
  writer.uint(1, hello.versions.min)
  writer.uint(2, hello.versions.max)
  for (const feature of hello.features) writer.optionalString(3, feature)
  writer.string(4, hello.cluster)
  writer.string(5, hello.from)
  writer.string(6, hello.to)
  writer.string(7, hello.address)
  writer.bytes(8, hello.nonce)
  return writer.takeOne()
}

/** @throws WireError */
export function decodeHello(bytes: Buffer): Hello {
  const fields = { min: 0, max: 0, cluster: '', from: '', to: '', address: '' }
  const features: string[] = []
  let nonce: Uint8Array = new Uint8Array(0)
  const reader = new Reader(bytes)
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === varintKey(1)) fields.min = reader.uint()
    else if (key === varintKey(2)) fields.max = reader.uint()
    else if (key === bytesKey(3)) addFeature(features, reader.string())
    else if (key === bytesKey(4)) fields.cluster = reader.string()
    else if (key === bytesKey(5)) fields.from = reader.string()
    else if (key === bytesKey(6)) fields.to = reader.string()
    else if (key === bytesKey(7)) fields.address = reader.string()
    else if (key === bytesKey(8)) nonce = reader.bytes()
    else reader.skip(key) // H3
  }
  const { min, max, cluster, from, to, address } = fields
  if (from === '' || nonce.length !== nonce_bytes || max < min) throw new WireError('a hello lacks its sender, its nonce or its versions')
  return { versions: { min, max }, features, cluster, from, to, address, nonce }
}

export function encodeWelcome(welcome: Welcome): Buffer {
  const writer = new Writer()
  writer.uint(1, welcome.version)
  for (const feature of welcome.features) writer.optionalString(2, feature)
  writer.string(3, welcome.cluster)
  writer.string(4, welcome.member)
  writer.bytes(5, welcome.nonce)
  return writer.takeOne()
}

/** @throws WireError */
export function decodeWelcome(bytes: Buffer): Welcome {
  let version = 0
  let cluster = ''
  let member = ''
  const features: string[] = []
  let nonce: Uint8Array = new Uint8Array(0)
  const reader = new Reader(bytes)
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === varintKey(1)) version = reader.uint()
    else if (key === bytesKey(2)) addFeature(features, reader.string())
    else if (key === bytesKey(3)) cluster = reader.string()
    else if (key === bytesKey(4)) member = reader.string()
    else if (key === bytesKey(5)) nonce = reader.bytes()
    else reader.skip(key) // H3
  }
  if (member === '' || nonce.length !== nonce_bytes) throw new WireError('a welcome lacks its sender or its nonce')
  return { version, features, cluster, member, nonce }
}

function addFeature(features: string[], feature: string): void {
  if (features.length < features_max) features.push(feature)
}

/** Fields of PeerPacket that open a stream; see codec.ts for its items. */
export function encodeOpening({ hello, welcome, proof }: Opening): Buffer {
  const writer = new Writer()
  writer.optionalBytes(1, hello)
  writer.optionalBytes(2, welcome)
  writer.optionalBytes(3, proof)
  return writer.takeOne()
}

/** @throws WireError */
export function decodeOpening(buffer: Buffer, start: number, end: number): Opening {
  const reader = new Reader(buffer, start, end)
  let hello: Buffer | undefined
  let welcome: Buffer | undefined
  let proof: Buffer | undefined
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === bytesKey(1)) hello = reader.bytes()
    else if (key === bytesKey(2)) welcome = reader.bytes()
    else if (key === bytesKey(3)) proof = reader.bytes()
    else if (key === bytesKey(4))
      throw new WireError('items come before the hello is over') // H1
    else reader.skip(key)
  }
  return { hello, welcome, proof }
}

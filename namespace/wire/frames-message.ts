/** The message that carries a session's bytes over gRPC: `Frames { bytes data = 1 }`. */
import { Reader, Writer } from '../../proto/protobuf.ts'
import { B } from './fields.ts'

export const sessionMethod = '/nine.v1.Namespace/Session'

export function encodeFrames(data: Uint8Array): Buffer {
  const writer = new Writer()
  writer.lastBytes(1, data)
  writer.endUnit(() => undefined)
  return writer.takeOne()
}

/** @throws WireError */
export function decodeFrames(message: Buffer): Buffer {
  const reader = new Reader(message)
  const parts: Buffer[] = []
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) parts.push(reader.bytes())
    else reader.skip(key)
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
}

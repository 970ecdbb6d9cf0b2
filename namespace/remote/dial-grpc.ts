/** A session over a gRPC call. Loaded only when asked for: the gRPC library is large. */
import { Client, credentials, Metadata } from '@grpc/grpc-js'
import type { ChannelCredentials, ClientDuplexStream } from '@grpc/grpc-js'
import type { Duplex } from 'node:stream'
import { decodeFrames, encodeFrames, sessionMethod } from '../wire/frames-message.ts'
import { limits } from '../limits.ts'
import { CallStream } from './call-stream.ts'
import type { DialOptions } from './dial.ts'

export function dialGrpc(target: string, { tls, token }: DialOptions): Duplex {
  const client = new Client(target, credentialsOf(tls), {
    'grpc.max_receive_message_length': limits.frame_bytes_max * 2,
    'grpc.max_send_message_length': limits.frame_bytes_max * 2,
    'grpc.use_local_subchannel_pool': 1,
    ...(tls?.serverName === undefined ? {} : { 'grpc.ssl_target_name_override': tls.serverName }),
  })
  const metadata = new Metadata()
  if (token !== '') metadata.set('authorization', `Bearer ${token}`)
  const call: ClientDuplexStream<Uint8Array, Buffer> = client.makeBidiStreamRequest(sessionMethod, encodeFrames, decodeFrames, metadata)
  return new CallStream(call as unknown as Duplex, () => {
    call.cancel()
    client.close()
  })
}

function credentialsOf(tls: DialOptions['tls']): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure()
  return credentials.createSsl(toBuffer(tls.ca), toBuffer(tls.key), toBuffer(tls.cert))
}

function toBuffer(pem: string | Buffer | undefined): Buffer | null {
  return pem === undefined ? null : Buffer.from(pem)
}

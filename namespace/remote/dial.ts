/** Connections to a node: TCP or TLS with the session's own framing, or a gRPC call. */
import { connect as connectTcp } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import { sessionMagic } from '../../proto/frames.ts'
import { NineError } from '../errors.ts'
import { limits } from '../limits.ts'
import { connectionReason } from './tls-reason.ts'

export interface DialTls {
  /** PEM of the authorities that may have signed the node's certificate; default: the system's. */
  readonly ca?: string | Buffer | undefined
  readonly cert?: string | Buffer | undefined
  readonly key?: string | Buffer | undefined
  /** Name the certificate is for, where it is not the address. */
  readonly serverName?: string | undefined
}

export interface DialOptions {
  /** `HOST:PORT` or `[IPv6]:PORT`. */
  readonly address: string
  readonly tls?: DialTls | undefined
  /** Default `tcp`. */
  readonly transport?: 'tcp' | 'grpc' | undefined
  readonly token: string
  /** Milliseconds that connecting may take. Default limits.handshake_ms. */
  readonly openMs?: number | undefined
  /** Aborted: nobody wants the connection any more. */
  readonly signal?: AbortSignal | undefined
}

/** A stream that is ready for a session. @throws NineError `unavailable`, `invalid` for an address that is none */
export async function dial(options: DialOptions): Promise<Duplex> {
  const { host, port } = parseAddress(options.address)
  if (options.transport === 'grpc') {
    const { dialGrpc } = await import('./dial-grpc.ts')
    return dialGrpc(`${host.includes(':') ? `[${host}]` : host}:${port}`, options)
  }
  return new Promise((resolve, reject) => {
    const { tls, signal } = options
    const socket =
      tls === undefined
        ? connectTcp({ host, port, noDelay: true })
        : connectTls({
            host,
            port,
            ca: tls.ca,
            cert: tls.cert,
            key: tls.key,
            servername: tls.serverName ?? (isIp(host) ? undefined : host),
          })
    const refuse = (cause: Error): void => {
      signal?.removeEventListener('abort', giveUp)
      socket.destroy()
      reject(
        new NineError({
          kind: 'unavailable',
          op: 'remote.connect',
          message: `cannot connect to ${options.address}: ${connectionReason(cause, '--tls-ca')}`,
          cause,
        }),
      )
    }
    const giveUp = (): void => refuse(new Error('it is not wanted any more'))
    signal?.addEventListener('abort', giveUp)
    socket.setTimeout(options.openMs ?? limits.handshake_ms, () => refuse(new Error('no answer in time')))
    socket.once('error', refuse)
    socket.once(tls === undefined ? 'connect' : 'secureConnect', () => {
      socket.setTimeout(0)
      socket.setNoDelay(true)
      // Already the first write may fail, and is told before anybody who awaits this could listen for it.
      socket.write(sessionMagic, (error) => {
        if (error) return refuse(error)
        socket.off('error', refuse)
        signal?.removeEventListener('abort', giveUp)
        resolve(socket)
      })
    })
  })
}

/** @throws NineError `invalid` */
export function parseAddress(address: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]\s/]+)):(\d{1,5})$/.exec(address)
  const port = Number(match?.[3])
  if (match === null || port === 0 || port > 65_535) {
    throw new NineError({ kind: 'invalid', op: 'remote.connect', message: `${JSON.stringify(address)} is no address: HOST:PORT` })
  }
  return { host: match[1] ?? match[2]!, port }
}

function isIp(host: string): boolean {
  return host.includes(':') || /^[\d.]+$/.test(host)
}

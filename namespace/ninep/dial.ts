/** Byte streams to 9P servers: TCP and Unix sockets. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { NineError } from '../errors.ts'
import { limits } from '../limits.ts'

/** Where a 9P server listens. */
export type NinepAddress = { readonly host: string; readonly port: number } | { readonly socket: string }

/**
 * `HOST:PORT`, `[IPv6]:PORT`, `HOST` (port 564), or the absolute path of a Unix socket.
 * @throws NineError `invalid`
 */
export function parseNinepAddress(text: string): NinepAddress {
  if (text.startsWith('/') && !text.includes('\0')) return { socket: text }
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]\s/]+))(?::(\d{1,5}))?$/.exec(text)
  const port = match?.[3] === undefined ? default_port : Number(match[3])
  if (match === null || port === 0 || port > 65_535) {
    throw new NineError({ kind: 'invalid', op: 'ninep.connect', message: `${JSON.stringify(text)} is no address: HOST:PORT` })
  }
  return { host: match[1] ?? match[2]!, port }
}

/** 9pfs of the Internet's list of ports. */
const default_port = 564

/**
 * @param noLoopback refuse to speak to a server of this machine, whatever name led there
 * @throws NineError `unavailable`, `denied`
 */
export function dialNinep(address: NinepAddress, noLoopback = false): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = 'socket' in address ? connect({ path: address.socket }) : connect({ ...address, noDelay: true })
    const refuse = (cause: Error): void => {
      socket.destroy()
      const where = 'socket' in address ? address.socket : `${address.host}:${address.port}`
      reject(new NineError({ kind: 'unavailable', op: 'ninep.connect', message: `cannot connect to ${where}: ${cause.message}`, cause }))
    }
    socket.setTimeout(limits.handshake_ms, () => refuse(new Error('no answer in time')))
    socket.once('error', refuse)
    socket.once('connect', () => {
      socket.setTimeout(0)
      socket.off('error', refuse)
      if (noLoopback && isLocal(socket)) {
        socket.destroy()
        reject(
          new NineError({
            kind: 'denied',
            op: 'ninep.connect',
            message: '9P servers of its own machine are mounted by the owner of the node alone',
          }),
        )
        return
      }
      socket.setKeepAlive(true, limits.session_ping_ms)
      resolve(socket)
    })
  })
}

/** What has no address is a Unix socket. A connection to any address of this machine comes from that address. */
function isLocal({ remoteAddress, localAddress }: Socket): boolean {
  return remoteAddress === undefined || remoteAddress === localAddress || /^(::ffff:)?127\.|^::1$/.test(remoteAddress)
}

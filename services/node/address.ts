/** Addresses to listen on: parsed once, and refused where listening there would be unsafe. */
import { isIP } from 'node:net'
import { NineError } from '../../namespace/errors.ts'

export interface ListenAddress {
  readonly host: string
  readonly port: number
}

/** `HOST:PORT` or `[IPV6]:PORT`. @throws NineError `invalid` */
export function parseAddress(text: string, what: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) {
    throw new NineError({
      kind: 'invalid',
      op: 'node.listen',
      message: `${what} is HOST:PORT, like 127.0.0.1:9580, not ${JSON.stringify(text)}`,
    })
  }
  return { host: (match[1] ?? match[2])!, port }
}

/** @throws NineError `invalid` for an address beyond loopback without TLS */
export function checkListen({ host }: ListenAddress, what: string, hasTls: boolean): void {
  if (hasTls || isLoopback(host)) return
  const message = `${what} ${host} is not loopback: listening there needs TLS (--tls-cert and --tls-key)`
  throw new NineError({ kind: 'invalid', op: 'node.listen', message })
}

/** Names other than localhost count as not loopback: what they resolve to may change. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost') return true
  return isIP(host) === 4 ? host.startsWith('127.') : host === '::1'
}

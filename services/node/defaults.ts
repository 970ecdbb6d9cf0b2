/** Where a node keeps its data and listens when nothing else is said; the command line looks in the same places. */
import { homedir } from 'node:os'
import { join } from 'node:path'

export const defaultAddresses = { http: '127.0.0.1:9580', grpc: '127.0.0.1:9581' } as const

/** `NINE_DATA`, else the XDG data folder (https://specifications.freedesktop.org/basedir-spec/). */
export function defaultDataDir(): string {
  return process.env['NINE_DATA'] ?? join(process.env['XDG_DATA_HOME'] ?? join(homedir(), '.local', 'share'), 'ninefold')
}

export function identityDir(data: string): string {
  return join(data, 'identity')
}

/** The owner's token of the node in the default folder. */
export function defaultTokenFile(): string {
  return join(identityDir(defaultDataDir()), 'token')
}

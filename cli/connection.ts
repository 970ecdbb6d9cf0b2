/** How a command finds its node: address and token by option, environment, or the defaults of `nine up`. */
import { readFile } from 'node:fs/promises'
import { NineError } from '../namespace/errors.ts'
import { defaultAddresses, defaultTokenFile } from '../services/node/defaults.ts'
import { connect } from '../sdk/connect.ts'
import type { Session } from '../sdk/session.ts'
import type { GlobalOptions } from './commands/command.ts'

let shared: Session | undefined

/** In `nine shell` every line works on the shell's own session, whose namespace its binds change. */
export function shareSession(session: Session): void {
  shared = { ...session, client: session.client, namespace: session.namespace, control: session.control, close: async () => undefined }
}

/** @throws NineError `unavailable` when no node answers, `unauthenticated` for a token that is missing or wrong */
export async function openSession(options: GlobalOptions): Promise<Session> {
  if (shared !== undefined) return shared
  const address = options.addr ?? process.env['NINE_ADDR'] ?? defaultAddresses.grpc
  return connect({
    address,
    token: await readToken(options.tokenFile ?? process.env['NINE_TOKEN_FILE'] ?? defaultTokenFile()),
    clientName: 'nine',
  })
}

async function readToken(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (cause as Error).message
    const hint = 'start a node with: nine up, or name its token with --token-file or NINE_TOKEN_FILE'
    throw new NineError({
      kind: 'unauthenticated',
      op: 'cli.connect',
      message: `cannot read the token file ${file}: ${why}; ${hint}`,
      cause,
    })
  }
}

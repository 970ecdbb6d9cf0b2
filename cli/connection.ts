/** How a command finds its node: address and token by option, environment, or the defaults of `nine up`. */
import { readFile } from 'node:fs/promises'
import { NineError, textOf } from '../namespace/errors.ts'
import { connect } from '../sdk/connect.ts'
import type { Session } from '../sdk/session.ts'
import type { GlobalOptions } from './commands/command.ts'

let shared: Session | undefined

/** In `nine shell` every line works on the shell's own session, whose namespace its binds change. */
export function shareSession(session: Session): void {
  shared = {
    client: session.client,
    namespace: session.namespace,
    control: (name, value) => session.control(name, value),
    status: () => session.status(),
    close: async () => undefined,
  }
}

/** @throws NineError `unavailable` when no node answers, `unauthenticated` for a token that is missing or wrong */
export async function openSession({ addr, tokenFile, tlsCa, timeout }: GlobalOptions): Promise<Session> {
  if (shared !== undefined) return shared
  const ca = tlsCa ?? process.env['NINE_TLS_CA'] ?? ''
  const tls = ca === '' ? undefined : { ca: await readCa(ca) }
  // A command is over before following a leader could pay.
  return connect({ address: addr, tokenFile, tls, timeoutMs: timeout, clientName: 'nine', route: 'any', prefer: 'given' })
}

async function readCa(file: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (cause) {
    const message = `cannot read the authority ${file} (--tls-ca, NINE_TLS_CA): ${textOf(cause)}`
    throw new NineError({ kind: 'invalid', op: 'cli.connect', message, cause })
  }
}

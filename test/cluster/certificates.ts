/** Authorities and certificates of nodes, made with openssl, as an operator makes them. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Certificates {
  /** Flags of `nine up` for a node with a certificate of this authority. */
  readonly flags: readonly string[]
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** An authority of its own and one certificate signed by it, for 127.0.0.1 and the addresses named. */
export function makeCertificates(folder: string, ...addresses: string[]): Certificates {
  mkdirSync(folder, { recursive: true })
  const at = (name: string): string => join(folder, name)
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'ignore' })
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...curve, '-days', '1', '-subj', '/CN=cluster', '-keyout', at('ca.key'), '-out', at('ca.pem'))
  openssl('req', ...curve, '-subj', '/CN=node', '-keyout', at('key.pem'), '-out', at('request.pem'))
  writeFileSync(at('names'), `subjectAltName=${['127.0.0.1', ...addresses].map((address) => `IP:${address}`).join(',')}`)
  const signed = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '1', '-extfile', at('names')]
  openssl('x509', '-req', '-in', at('request.pem'), ...signed, '-out', at('cert.pem'))
  const [ca, cert, key] = [at('ca.pem'), at('cert.pem'), at('key.pem')] as const
  return { ca, cert, key, flags: ['--peer-tls-ca', ca, '--peer-tls-cert', cert, '--peer-tls-key', key] }
}

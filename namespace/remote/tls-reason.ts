/** What went wrong with a connection, in words; OpenSSL's own are a line of its source. */

const noTls: ReadonlySet<string | undefined> = new Set([
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_PACKET_LENGTH_TOO_LONG',
  'ERR_SSL_HTTP_REQUEST',
  'ERR_SSL_HTTPS_PROXY_REQUEST',
])
const noCertificate: ReadonlySet<string | undefined> = new Set([
  'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE',
  'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
])
const untrusted: ReadonlySet<string | undefined> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_SIGNATURE_FAILURE',
])

/** @param authority where the authorities that are trusted are named, such as a flag */
export function connectionReason(error: Error, authority: string): string {
  const { code, reason } = error as { readonly code?: string; readonly reason?: string }
  if (untrusted.has(code)) return `its certificate is not one of the authority in ${authority} (${error.message})`
  if (code === 'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA') return 'it does not take the certificate of this side, which is not one of its authority'
  if (noTls.has(code)) return 'it speaks no TLS'
  if (noCertificate.has(code)) return 'a certificate was asked for and none was shown: this port is for the nodes of a cluster'
  return reason ?? error.message
}

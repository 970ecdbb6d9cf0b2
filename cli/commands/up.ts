/** up: run a node until it is told to stop. */
import { X509Certificate } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Option } from 'commander'
import { createSecureContext } from 'node:tls'
import type { Command } from 'commander'
import { NineError } from '../../namespace/errors.ts'
import { checkFailpoints, hasFailpoints } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import { clusterWarnings } from '../../services/node/cluster-options.ts'
import type { ClusterFlags } from '../../services/node/cluster-options.ts'
import { defaultAddresses, defaultDataDir } from '../../services/node/defaults.ts'
import type { RunningNode } from '../../services/node/index.ts'
import { giveHeapRoom } from '../heap.ts'
import { standardOutput } from '../output.ts'
import { printable } from '../render/long.ts'
import type { Output } from '../output.ts'
import type { GlobalOptions } from './command.ts'

export function upCommand(program: Command): void {
  program
    .command('up')
    .description('run a node on this machine')
    .option('--data <dir>', 'folder of its data; made when missing (or NINE_DATA)', defaultDataDir())
    .option('--http <host:port>', 'HTTP address; port 0 picks one', defaultAddresses.http)
    .option('--grpc <host:port>', 'gRPC address; port 0 picks one', defaultAddresses.grpc)
    .option('--9p <host:port>', '9P address, usually 127.0.0.1:9564; not served by default')
    .option('--9p-unix <file>', 'Unix socket to serve 9P on, open to your user alone (mode 0600)')
    .addOption(new Option('--9p-auth <how>', 'what 9P over TCP asks for').choices(['token', 'none']).default('token'))
    .option('--ready-file <file>', 'written once it serves: JSON {http, grpc, tokenFile, pid, data}, with 9p and 9pUnix when served')
    .option('--name <name>', 'name of the node below /n; in a cluster it is that of --node', 'local')
    .option('--node <name>', 'be a node of a cluster, under this name among --peers')
    .option('--peers <list>', 'the nodes that found the cluster, this one among them: NAME=HOST:PORT,NAME=HOST:PORT,…')
    .option('--peer-listen <host:port>', 'where to listen for the other nodes; default: the address of this node in --peers')
    .option('--peer-via <list>', 'other ways to peers than their address in --peers (proxy, NAT): NAME=HOST:PORT,…')
    .option('--peer-tls-ca <file>', "authority that signs the nodes' certificates (PEM); beyond loopback nodes need it")
    .option('--peer-tls-cert <file>', "this node's certificate for the other nodes (PEM)")
    .option('--peer-tls-key <file>', 'its private key (PEM)')
    .option('--owner <name>', 'principal that owns a new data folder; default your user name')
    .option('--tls-cert <file>', 'certificate chain (PEM); needed to listen beyond loopback')
    .option('--tls-key <file>', 'its private key (PEM)')
    .option('--cors-origin <origin...>', 'web origins whose pages may read answers; none by default')
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent', 'warn')
    .option('--log-file <file>', 'logs as JSON lines; default standard error')
    .addHelpText(
      'after',
      '\nThe token file (--token-file, default DATA/identity/token) is made at first start and holds the token only.\n\nExamples:\n  nine up\n  nine up --data ./data --http 127.0.0.1:0 --grpc 127.0.0.1:0 --ready-file ready.json' +
        '\n\nA cluster of three; every node has the same token file, which is made beforehand:\n  head -c 24 /dev/urandom | base64 > cluster.token && chmod 600 cluster.token\n  nine up --node n1 --peers n1=127.0.0.1:7101,n2=127.0.0.1:7102,n3=127.0.0.1:7103 --token-file cluster.token --data ./n1',
    )
    .action(up)
}

interface UpOptions extends GlobalOptions {
  readonly data: string
  readonly http: string
  readonly grpc: string
  readonly '9p'?: string
  readonly '9pUnix'?: string
  readonly '9pAuth': 'token' | 'none'
  readonly readyFile?: string
  readonly name: string
  readonly node?: string
  readonly peers?: string
  readonly peerListen?: string
  readonly peerVia?: string
  readonly peerTlsCa?: string
  readonly peerTlsCert?: string
  readonly peerTlsKey?: string
  readonly owner?: string
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly corsOrigin?: string[]
  readonly logLevel: string
  readonly logFile?: string
}

async function up(this: void, _flags: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<UpOptions>()
  const output = standardOutput(options.json === true)
  checkFailpoints()
  if (hasFailpoints) process.stderr.write('nine: warning: failpoints are on (NINE_FAILPOINTS): this node is to fail, for a test\n')
  checkName(options.name, '--name')
  if (options.owner !== undefined) checkName(options.owner, '--owner')
  options.corsOrigin?.forEach(checkOrigin)
  const cluster = await clusterFlags(options)
  // Loaded here, so that no other command pays for a node.
  const { startNode } = await import('../../services/node/index.ts')
  giveHeapRoom()
  const tls = await readTls(options)
  const stop = stopAsked()
  const starting = startNode({
    data: resolve(options.data),
    http: options.http,
    grpc: options.grpc,
    ninep: options['9p'],
    ninepUnix: options['9pUnix'],
    ninepAuth: options['9pAuth'],
    name: options.name,
    tokenFile: options.tokenFile,
    owner: options.owner,
    tls,
    corsOrigins: options.corsOrigin ?? [],
    logLevel: options.logLevel,
    logFile: options.logFile,
    cluster,
    waiting: (text) => process.stderr.write(`nine: ${printable(text)}\n`),
    signal: stop.signal,
  })
  let node: RunningNode
  try {
    node = await starting
  } catch (error) {
    if (stop.signal.aborted) return // It has taken down what it had begun.
    throw error
  }
  try {
    if (!(await becomesReady(node, stop))) return
    const { http, grpc, ninep, ninepUnix, tokenFile, data, cluster: membership } = node
    // JSON leaves out what is undefined.
    const ready = { http, grpc, '9p': ninep, '9pUnix': ninepUnix, tokenFile, pid: process.pid, data, cluster: membership }
    if (options.readyFile !== undefined) await replaceFile(resolve(options.readyFile), `${JSON.stringify(ready)}\n`)
    if (options['9pAuth'] === 'none' && ninep !== undefined) {
      process.stderr.write(`nine: warning: whoever can connect to ${ninep} acts as ${node.owner.name} (--9p-auth none)\n`)
    }
    if (output.isJson) await output.json(ready)
    else await banner(output, node, { tlsCert: options.tlsCert, cert: tls?.cert })
    const removed = await Promise.race([stop.asked, node.ended])
    if (removed !== undefined) throw removed
  } finally {
    // Also when the ready file cannot be written: a node that nobody can find does not serve on.
    await node.close()
  }
}

const quiet_ms = 1_000

/** Resolves when the node can do all that clients ask: true; or when it was told to stop. @throws NineError it has to end by itself */
async function becomesReady(node: RunningNode, { asked }: Stop): Promise<boolean> {
  const meanwhile = setTimeout(() => {
    process.stderr.write(`nine: not ready; what it can answer alone it does: HTTP ${node.http}, gRPC ${node.grpc}\n`)
  }, quiet_ms)
  try {
    const ended = asked.then(() => false)
    const removed = node.ended.then((reason): never => {
      throw reason
    })
    return await Promise.race([ended, node.ready.then(() => true), removed])
  } finally {
    clearTimeout(meanwhile)
  }
}

/** The flags that make a node one of a cluster; undefined without any. */
async function clusterFlags(options: UpOptions): Promise<ClusterFlags | undefined> {
  const { node, peers, peerListen, peerVia, peerTlsCa, peerTlsCert, peerTlsKey } = options
  const files = [peerTlsCa, peerTlsCert, peerTlsKey]
  if (node === undefined || peers === undefined) {
    if ([node, peers, peerListen, peerVia, ...files].every((flag) => flag === undefined)) return undefined
    throw new NineError({ kind: 'invalid', op: 'cli.up', message: '--node and --peers go together, and the other --peer flags with them' })
  }
  for (const warning of clusterWarnings(peers)) process.stderr.write(`nine: warning: ${warning}\n`)
  const tls = await readPeerTls(peerTlsCa, peerTlsCert, peerTlsKey)
  return { node, peers, listen: peerListen, via: peerVia, tls }
}

async function readPeerTls(ca: string | undefined, cert: string | undefined, key: string | undefined): Promise<ClusterFlags['tls']> {
  if (ca === undefined && cert === undefined && key === undefined) return undefined
  if (ca === undefined || cert === undefined || key === undefined) {
    throw new NineError({ kind: 'invalid', op: 'cli.up', message: '--peer-tls-ca, --peer-tls-cert and --peer-tls-key go together' })
  }
  try {
    const tls = { ca: await readFile(ca), cert: await readFile(cert), key: await readFile(key) }
    createSecureContext(tls)
    return tls
  } catch (cause) {
    const message = `cannot use ${ca}, ${cert} and ${key} between nodes: ${(cause as Error).message}`
    throw new NineError({ kind: 'invalid', op: 'cli.up', message, cause })
  }
}

/** A node and a principal each stand in the tree under their name. */
function checkName(name: string, flag: string): void {
  const isName = name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name) && Buffer.byteLength(name) <= limits.name_bytes_max
  if (!isName) {
    const message = `${flag} is one name of a path, of 1 to ${limits.name_bytes_max} bytes without "/", not ${JSON.stringify(name)}`
    throw new NineError({ kind: 'invalid', op: 'cli.up', message })
  }
}

/** As browsers send it (RFC 6454): anything else would never match. */
function checkOrigin(text: string): void {
  const origin = URL.canParse(text) ? new URL(text).origin : 'null'
  if (origin !== 'null' && origin === text) return
  const hint = origin === 'null' ? 'SCHEME://HOST[:PORT], like https://app.example' : origin
  throw new NineError({ kind: 'invalid', op: 'cli.up', message: `--cors-origin is ${hint}, not ${JSON.stringify(text)}` })
}

async function readTls({ tlsCert, tlsKey }: UpOptions): Promise<{ cert: Buffer; key: Buffer } | undefined> {
  if (tlsCert === undefined && tlsKey === undefined) return undefined
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new NineError({ kind: 'invalid', op: 'cli.up', message: '--tls-cert and --tls-key go together' })
  }
  try {
    const pair = { cert: await readFile(tlsCert), key: await readFile(tlsKey) }
    createSecureContext(pair)
    return pair
  } catch (cause) {
    const message = `cannot use the certificate ${tlsCert} with the key ${tlsKey}: ${(cause as Error).message}`
    throw new NineError({ kind: 'invalid', op: 'cli.up', message, cause })
  }
}

interface Stop {
  /** Aborted at SIGINT or SIGTERM, and resolves then. */
  readonly signal: AbortSignal
  readonly asked: Promise<void>
}

/** A second signal ends the process at once. */
function stopAsked(): Stop {
  const told = new AbortController()
  const { signal } = told
  const asked = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
  for (const [name, code] of [['SIGINT', 130], ['SIGTERM', 143]] as const) process.on(name, () => (signal.aborted ? process.exit(code) : told.abort())) // prettier-ignore
  return { signal, asked }
}

/** By rename, so that whoever waits for the file never reads half of it. */
async function replaceFile(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}.new`
  await writeFile(temporary, text, { mode: 0o600 })
  await rename(temporary, file)
}

async function banner(output: Output, node: RunningNode, { tlsCert, cert }: { tlsCert?: string; cert?: Buffer }): Promise<void> {
  const { colors } = output
  const isDefault = node.grpc === defaultAddresses.grpc && node.data === resolve(defaultDataDir())
  const tokenFile = shellWord(node.tokenFile)
  // Whoever signed it may be known everywhere, or to be named: only the operator knows.
  const isSigned = cert !== undefined && !isSelfSigned(cert)
  const ca = tlsCert === undefined || isSigned ? undefined : shellWord(resolve(tlsCert))
  const tls = ca === undefined ? '' : ` --tls-ca ${ca}`
  const prefix = isDefault ? `npx nine${tls}` : `npx nine --addr ${reachable(node.grpc)}${tls} --token-file ${tokenFile}`
  const scheme = node.isTls ? 'https' : 'http'
  const lines = [
    colors.bold('Ninefold is up.'),
    '',
    `  HTTP   ${scheme}://${node.http}/v1/fs/`,
    `  gRPC   ${node.grpc}`,
    ...[node.ninep, node.ninepUnix].filter((address) => address !== undefined).map((address) => `  9P     ${address}`),
    `  data   ${node.data}`,
    `  token  ${node.tokenFile}`,
    ...(node.cluster === undefined ? [] : [`  cluster ${node.cluster.id}, as ${node.cluster.member}, peers on ${node.cluster.address}`]),
    '',
    'Three commands to try, in another terminal:',
    '',
    `  ${prefix} tree /`,
    `  ${prefix} import ./node_modules /data/modules`,
    `  curl${ca === undefined ? '' : ` --cacert ${ca}`} -H "Authorization: Bearer $(cat ${tokenFile})" ${scheme}://${reachable(node.http)}/v1/fs/sys/status`,
    ...(isSigned ? ['', `Where the authority of ${tlsCert} is not a well-known one: nine --tls-ca CA.pem, curl --cacert CA.pem`] : []),
    '',
    colors.dim('Ctrl-C stops it; nothing acknowledged is lost.'),
  ]
  for (const line of lines) await output.line(line)
}

function isSelfSigned(cert: Buffer): boolean {
  const known = new X509Certificate(cert)
  return known.checkIssued(known)
}

/** Where a client on this machine connects to what listens on every address. */
function reachable(address: string): string {
  return address.replace(/^(0\.0\.0\.0|\[::\]):/, 'localhost:')
}

function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

/** Three etcd nodes from PATH on loopback with their defaults: each batch of a node's log is synced before it is acknowledged. */
import { join } from 'node:path'
import { ClusterProcesses } from './cluster-process.ts'
import type { Subject } from './cluster-process.ts'
import { buildGoDriver, Driver } from './driver.ts'
import { freePort, isOnPath } from './etcd.ts'

/** @returns the cluster, serving; or why there is none */
export async function startEtcdCluster(nodes = 3): Promise<Subject | string> {
  if (!isOnPath('etcd')) return 'etcd is not on PATH (Debian: etcd-server)'
  const program = buildGoDriver()
  if (program === undefined) return 'its driver could not be built (needs Go and the Go module proxy)'
  const ports: { client: string; peer: string }[] = []
  for (let node = 0; node < nodes; node++) {
    ports.push({ client: `http://127.0.0.1:${await freePort()}`, peer: `http://127.0.0.1:${await freePort()}` })
  }
  const all = ports.map(({ peer }, node) => `s${node}=${peer}`).join(',')
  const processes = new ClusterProcesses('etcd', (node, folder) => {
    const { client, peer } = ports[node]!
    const urls = ['--listen-client-urls', client, '--advertise-client-urls', client]
    const peerUrls = ['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer]
    const cluster = ['--initial-cluster', all, '--initial-cluster-token', folder]
    const own = ['--name', `s${node}`, '--data-dir', join(folder, `s${node}`), '--log-level', 'error']
    return { command: 'etcd', args: [own, urls, peerUrls, cluster].flat() }
  })
  for (let node = 0; node < nodes; node++) processes.start(node)
  return withDriver('etcd', program, ports.map(({ client }) => client).join(','), processes)
}

/** @returns a subject whose nodes are all there; or why not */
export async function withDriver(name: string, program: string, endpoints: string, processes: ClusterProcesses): Promise<Subject | string> {
  let driver: Driver | undefined
  const stop = async (): Promise<void> => {
    await driver?.stop()
    await processes.stop()
  }
  try {
    driver = await Driver.start(program, ['-kind', name, '-endpoints', endpoints])
    await driver.ask({ do: 'settled' })
    return { name, driver, processes, begin: (node) => processes.start(node), stop }
  } catch (error) {
    const why = `${(error as Error).message}\n${processes.lastWords()}`
    await stop()
    return why
  }
}

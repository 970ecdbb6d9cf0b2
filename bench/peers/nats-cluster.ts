/**
 * Three nats-server processes on loopback with a JetStream KV bucket of three replicas, file storage and `sync_interval: always`: each
 * message is synced before it is acknowledged. By default it would be synced every two minutes. Its reads are answered by any replica
 * and are not linearizable, so they stand beside stale reads.
 */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ClusterProcesses } from './cluster-process.ts'
import type { Subject } from './cluster-process.ts'
import { buildGoDriver } from './driver.ts'
import { withDriver } from './etcd-cluster.ts'
import { freePort } from './etcd.ts'

/** @returns the cluster, serving; or why there is none */
export async function startNatsCluster(nodes = 3): Promise<Subject | string> {
  const server = findServer()
  if (!server.isFound) return server.why
  const program = buildGoDriver()
  if (program === undefined) return 'its driver could not be built (needs Go and the Go module proxy)'
  const ports: { client: number; route: number }[] = []
  for (let node = 0; node < nodes; node++) ports.push({ client: await freePort(), route: await freePort() })
  const routes = ports.map(({ route }) => `nats://127.0.0.1:${route}`).join(', ')
  const processes = new ClusterProcesses('nats', (node, folder) => ({
    command: server.path,
    args: ['-c', join(folder, `s${node}.conf`)],
  }))
  for (const [node, { client, route }] of ports.entries()) {
    const lines = [
      `server_name: s${node}`,
      `listen: 127.0.0.1:${client}`,
      `jetstream { store_dir: "${join(processes.folder, `s${node}`)}", sync_interval: always }`,
      `cluster { name: bench, listen: 127.0.0.1:${route}, routes: [${routes}] }`,
    ]
    writeFileSync(join(processes.folder, `s${node}.conf`), `${lines.join('\n')}\n`)
    processes.start(node)
  }
  return withDriver('nats', program, ports.map(({ client }) => `nats://127.0.0.1:${client}`).join(','), processes)
}

function findServer(): { isFound: true; path: string } | { isFound: false; why: string } {
  const script = join(import.meta.dirname, '..', '..', 'scripts', 'servers.mjs')
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, 'nats-server'], { encoding: 'utf8' })
  if (status !== 0) return { isFound: false, why: stderr.trim() }
  return { isFound: true, path: stdout.trim().slice('nats-server '.length) }
}

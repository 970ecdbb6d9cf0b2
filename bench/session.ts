/**
 * Operations a second through one session, client and server in a process each: reads and writes of 256 bytes, one at a time and
 * 200 in flight, over TCP and over gRPC, to a memory tree.
 *
 *     npx tsx bench/session.ts [seconds]
 */
import { fork } from 'node:child_process'
import { contextFor } from '../namespace/context.ts'
import { parsePath } from '../namespace/path.ts'
import { connectRemote } from '../namespace/remote/connect.ts'
import type { RemoteSession } from '../namespace/remote/connect.ts'

const seconds = Number(process.argv[2] ?? 2)
const child = fork(new URL('./session-server.ts', import.meta.url), { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
const address = await new Promise<string>((resolve) => child.stdout!.once('data', (line: Buffer) => resolve(line.toString().trim())))
const principal = { name: 'bench', groups: [] }
const value = Buffer.alloc(256, 'x')
const paths = Array.from({ length: 1000 }, (_, index) => parsePath(`/bench/file-${index}`))

for (const transport of ['tcp', 'grpc'] as const) {
  const session = await connectRemote({ address, token: 'any', transport })
  for (const path of paths) await session.server.write(contextFor(principal), path, value, { parents: true })
  for (const inFlight of [1, 200]) {
    await report(session, transport, 'read', inFlight, (path) => session.server.read(contextFor(principal), path))
    await report(session, transport, 'write', inFlight, (path) => session.server.write(contextFor(principal), path, value))
  }
  await session.close()
}
child.kill()
child.disconnect()

async function report(
  _session: RemoteSession,
  transport: string,
  name: string,
  inFlight: number,
  act: (path: (typeof paths)[number]) => Promise<unknown>,
): Promise<void> {
  await run(inFlight, 0.5, act)
  const begun = process.cpuUsage()
  const rate = await run(inFlight, seconds, act)
  const { user, system } = process.cpuUsage(begun)
  const busy = ((user + system) / (seconds * 1e6)) * 100
  console.log(
    `${transport.padEnd(5)}${name.padEnd(6)} ${String(inFlight).padStart(4)} in flight: ${String(Math.round(rate)).padStart(8)}/s, client CPU ${busy.toFixed(0)} %`,
  )
}

async function run(inFlight: number, span: number, act: (path: (typeof paths)[number]) => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  const end = begun + span * 1000
  let done = 0
  const worker = async (first: number): Promise<void> => {
    for (let index = first; performance.now() < end; index++, done++) await act(paths[index % paths.length]!)
  }
  await Promise.all(Array.from({ length: inFlight }, (_, index) => worker(index)))
  return done / ((performance.now() - begun) / 1000)
}

/**
 * What a round trip between two nodes costs: an append there, its accepted back, between two processes over loopback. The same codec runs
 * on the peer service (gRPC on node:http2, a connection each way), on the gRPC library and on a plain TCP connection.
 * `npx tsx bench/peer.ts [SECONDS]`
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Client, credentials } from '@grpc/grpc-js'
import type { PeerItem } from '../raft/driver/ports.ts'
import { startPeer } from '../services/peer/service.ts'
import { echoPath, Packets } from './peer-echo.ts'

const seconds = Number(process.argv[2] ?? 2)

interface Wire {
  readonly name: string
  send(item: PeerItem): void
  onAnswer: () => void
  /** A request and its answer, where the transport has them. */
  ask?(): Promise<unknown>
  /** Bring a snapshot of so many bytes. */
  snapshot?(bytes: number): Promise<boolean>
  close(): Promise<void>
}

const data = Buffer.alloc(300, 7)

function appendOf(entries: number): PeerItem {
  const message = {
    kind: 'append',
    from: 'n1.bench',
    to: 'n2.bench',
    term: 3,
    prevIndex: 1_000_000,
    prevTerm: 3,
    commit: 1_000_000,
    entries: Array.from({ length: entries }, (_, i) => ({ index: 1_000_001 + i, term: 3, data, configuration: null })),
  } as const
  return { kind: 'raft', group: 5, message }
}

/** `inFlight` appends at once, each followed by the next when its answer is there. */
async function measure(wire: Wire, entries: number, inFlight: number): Promise<void> {
  const item = appendOf(entries)
  const times: number[] = []
  const sent: number[] = []
  const begun = performance.now()
  const until = begun + seconds * 1000
  const cpu = process.cpuUsage()
  await new Promise<void>((resolve) => {
    let running = inFlight
    const next = (): void => {
      sent.push(performance.now())
      wire.send(item)
    }
    wire.onAnswer = () => {
      const now = performance.now()
      times.push(now - sent.shift()!)
      if (now < until) next()
      else if (--running === 0) resolve()
    }
    for (let i = 0; i < inFlight; i++) next()
  })
  const ms = performance.now() - begun
  const { user, system } = process.cpuUsage(cpu)
  times.sort((a, b) => a - b)
  const rate = (times.length / ms) * 1000
  const us = (value: number): string => `${(value * 1000).toFixed(0)} us`.padStart(8)
  const p50 = times[times.length >> 1]!
  const p99 = times[Math.floor(times.length * 0.99)]!
  const name = `${wire.name}, ${entries} x 300 B, ${inFlight} in flight`
  const cost = `${((user + system) / times.length).toFixed(1)} us of processor each`
  console.log(
    `${name.padEnd(44)} ${rate.toFixed(0).padStart(8)} appends/s ${(rate * entries).toFixed(0).padStart(8)} entries/s  p50 ${us(p50)}  p99 ${us(p99)}  ${cost}`,
  )
}

async function child(...args: string[]): Promise<{ readonly address: string; readonly process: ChildProcess }> {
  const started = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'peer-echo.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [address] = (await once(createInterface(started.stdout), 'line')) as [string]
  return { address, process: started }
}

async function tcp(): Promise<Wire> {
  const other = await child('tcp')
  const socket = connect({ host: '127.0.0.1', port: Number(other.address.split(':')[1]), noDelay: true })
  await once(socket, 'connect')
  const packets = new Packets(
    (packet) => void socket.write(packet),
    () => wire.onAnswer(),
  )
  socket.on('data', (chunk) => packets.chunk(chunk))
  const wire: Wire = { name: 'TCP', send: (item) => packets.send(item), onAnswer: () => undefined, close: () => ended(other.process) }
  return wire
}

async function grpc(): Promise<Wire> {
  const other = await child('grpc')
  const client = new Client(other.address, credentials.createInsecure(), { 'grpc.max_receive_message_length': 2 ** 24 })
  const same = (bytes: Buffer): Buffer => bytes
  const call = client.makeBidiStreamRequest(echoPath, same, same)
  call.on('error', () => undefined)
  const packets = new Packets(
    (packet) => void call.write(packet.subarray(5)),
    () => wire.onAnswer(),
  )
  call.on('data', (message: Buffer) => packets.message(message, 0, message.length))
  const close = (): Promise<void> => {
    call.cancel()
    client.close()
    return ended(other.process)
  }
  const wire: Wire = { name: 'grpc-js', send: (item) => packets.send(item), onAnswer: () => undefined, close }
  return wire
}

async function peers(): Promise<Wire> {
  const absent = (): Promise<never> => Promise.reject(new Error('not here'))
  const known: { address?: string } = {}
  const meta = { index: 1, term: 1, configuration: { voters: ['n1.bench'], outgoing: [], learners: [], demoted: [] } }
  const block = Buffer.alloc(1024 * 1024, 7)
  const read = (offset: number, length: number): Promise<Uint8Array> =>
    Promise.resolve(block.subarray(0, Math.min(length, source.size - offset)))
  const source = { id: 's', meta, size: 0, read, close: () => Promise.resolve() }
  const peer = await startPeer({
    listen: { host: '127.0.0.1', port: 0 },
    secret: 'bench',
    cluster: 'bench',
    self: 'n1.bench',
    addressOf: () => known.address,
    inbound: { receive: () => wire.onAnswer(), peerLost: () => undefined },
    onRequest: absent,
    onCall: absent,
    snapshots: { open: () => Promise.resolve(source), receive: absent },
    chunks: { get: absent, put: absent, touch: absent },
  })
  const other = await child('peer', peer.address)
  known.address = other.address
  const ask = (): Promise<unknown> => peer.request('n2.bench', 5, 'propose', data)
  await ask()
  const snapshot = (bytes: number): Promise<boolean> => {
    source.size = bytes
    return peer.sendSnapshot(1, { kind: 'install', from: 'n1.bench', to: 'n2.bench', term: 1, meta })
  }
  const close = async (): Promise<void> => {
    await ended(other.process)
    await peer.close()
  }
  const wire: Wire = { name: 'peers', send: (item) => peer.send('n2.bench', item), onAnswer: () => undefined, ask, snapshot, close }
  // The way back is dialled with its first item.
  while (!peer.status().peers[0]!.isHeard) {
    wire.send(appendOf(1))
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await new Promise((resolve) => setTimeout(resolve, 100))
  return wire
}

async function ended(process: ChildProcess): Promise<void> {
  const exit = once(process, 'exit')
  process.kill()
  await exit
}

async function requests(wire: Wire, inFlight: number): Promise<void> {
  let count = 0
  const begun = performance.now()
  const until = begun + seconds * 1000
  const one = async (): Promise<void> => {
    while (performance.now() < until) {
      await wire.ask!()
      count++
    }
  }
  await Promise.all(Array.from({ length: inFlight }, one))
  console.log(
    `${`${wire.name}, requests, ${inFlight} in flight`.padEnd(44)} ${((count / (performance.now() - begun)) * 1000).toFixed(0).padStart(8)}/s`,
  )
}

for (const open of [tcp, peers, grpc]) {
  const wire = await open()
  await measure(wire, 1, 1)
  await measure(wire, 1, 1)
  await measure(wire, 100, 1)
  await measure(wire, 100, 8)
  if (wire.ask !== undefined) for (const inFlight of [1, 200]) await requests(wire, inFlight)
  if (wire.snapshot !== undefined) {
    const bytes = 512 * 1024 * 1024
    const begun = performance.now()
    if (!(await wire.snapshot(bytes))) throw new Error('the snapshot did not arrive')
    console.log(`${`${wire.name}, a snapshot`.padEnd(44)} ${(bytes / 1000 / (performance.now() - begun)).toFixed(0).padStart(8)} MB/s`)
  }
  await wire.close()
}

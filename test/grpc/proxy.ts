/** A TCP proxy on loopback that cuts connections where a test wants. */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'

export interface Proxy {
  readonly address: string
  /** Connections accepted so far. */
  readonly accepted: number
  /** Bytes that still pass in a direction before both sides are cut; Infinity: no cut. The bytes counted are of all connections. */
  cutAfter(direction: 'toServer' | 'toClient', bytes: number): void
  /** Cut everything now. */
  cut(): void
  /** Refuse new connections (they are closed at once) until allowed again. */
  refuse(isRefusing: boolean): void
  /** Pass nothing more, keeping the connections there are open: as if the processes behind them had been stopped. */
  freeze(): void
  /** Resolves when a connection has been cut by cutAfter. */
  nextCut(): Promise<void>
  close(): Promise<void>
}

export async function startProxy(target: string): Promise<Proxy> {
  const [host, port] = target.split(':') as [string, string]
  const sockets = new Set<Socket>()
  const left = { toServer: Infinity, toClient: Infinity }
  let accepted = 0
  let isRefusing = false
  let onCut: (() => void)[] = []
  const cutAll = (): void => {
    for (const socket of sockets) socket.destroy()
    sockets.clear()
  }
  const pass = (from: Socket, to: Socket, direction: keyof typeof left): void => {
    from.on('data', (chunk: Buffer) => {
      const passing = Math.min(chunk.length, left[direction])
      if (left[direction] !== Infinity) left[direction] -= passing
      if (passing > 0) to.write(chunk.subarray(0, passing))
      if (passing === chunk.length) return
      left[direction] = Infinity
      // What passed is delivered before the end is seen.
      from.destroy()
      to.end(() => {
        cutAll()
        const told = onCut
        onCut = []
        for (const tell of told) tell()
      })
    })
    from.on('error', () => undefined)
    from.on('close', () => to.destroySoon())
  }
  const server = createServer((client) => {
    accepted++
    if (isRefusing) return void client.destroy()
    const upstream = connect({ host, port: Number(port), noDelay: true })
    client.setNoDelay(true)
    sockets.add(client).add(upstream)
    pass(client, upstream, 'toServer')
    pass(upstream, client, 'toClient')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get accepted() {
      return accepted
    },
    cutAfter: (direction, bytes) => void (left[direction] = bytes),
    cut: cutAll,
    freeze: () => sockets.forEach((socket) => socket.pause()),
    refuse: (value) => void (isRefusing = value),
    nextCut: () => new Promise((resolve) => onCut.push(resolve)),
    close: () => {
      cutAll()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

/** What peers speak is gRPC: the library's own client and server can stand at the other end. */
import { Client, credentials, Server, ServerCredentials } from '@grpc/grpc-js'
import type { ServerDuplexStream } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { PacketWriter } from '../../services/peer/codec.ts'
import { decodeHello, decodeOpening, encodeHello, encodeOpening, encodeWelcome, proofOf } from '../../services/peer/hello.ts'
import { callPath } from '../../services/peer/own.ts'
import { closeNodes, startNode } from './nodes.ts'

afterEach(closeNodes)

const secret = 'a secret of the cluster'
const path = callPath.items
const same = (bytes: Buffer): Buffer => bytes
const fields = { features: [], cluster: 'c1', from: 'n1.a', to: 'n2.b', address: '127.0.0.1:1', nonce: Buffer.alloc(32, 1) }

describe('peers and the gRPC library', () => {
  it('its client is served, and refused with a status', async () => {
    const node = await startNode('n2.b')
    const client = new Client(node.peer.address, credentials.createInsecure())
    for (const cluster of ['c1', 'c2']) {
      const call = client.makeBidiStreamRequest(path, same, same)
      const hello = encodeHello({ versions: { min: 1, max: 1 }, ...fields, cluster: cluster === 'c1' ? cluster : 'c2, 100 % Größe' })
      const answer = new Promise<Buffer>((resolve) => call.once('data', resolve))
      const failure = new Promise<{ code: number; details: string }>((resolve) =>
        call.on('error', (error) => resolve(error as unknown as { code: number; details: string })),
      )
      call.write(encodeOpening({ hello }))
      if (cluster === 'c2') {
        expect(await failure).toMatchObject({ code: 9, details: 'n1.a is of cluster c2, 100 % Größe, n2.b of cluster c1' })
        continue
      }
      const { welcome, proof } = decodeOpening(await answer, 0, (await answer).length)
      expect(proof!.equals(proofOf(secret, 'listener', path, hello, welcome!))).toBe(true)
      call.write(encodeOpening({ proof: proofOf(secret, 'dialler', path, hello, welcome!) }))
      const writer = new PacketWriter()
      writer.item({ kind: 'beat', life: 5 })
      call.write(writer.take().subarray(5))
      await node.until(() => node.received.length === 1)
      call.cancel()
    }
    client.close()
  })

  it('its server gets each turn as one message', async () => {
    const node = await startNode('n1.a')
    const messages: Buffer[] = []
    let told = (): void => undefined
    const server = new Server()
    const definition = { path, requestStream: true, responseStream: true, requestSerialize: same, requestDeserialize: same } as const
    server.addService(
      { Items: { ...definition, responseSerialize: same, responseDeserialize: same } },
      {
        Items: (call: ServerDuplexStream<Buffer, Buffer>) => {
          call.on('error', () => undefined)
          call.on('data', (message: Buffer) => {
            const { hello, proof } = message[0] === 0x22 ? {} : decodeOpening(message, 0, message.length)
            if (hello !== undefined) {
              const { from } = decodeHello(hello)
              const welcome = encodeWelcome({ version: 1, features: [], cluster: 'c1', member: 'n2.b', nonce: Buffer.alloc(32, 2) })
              expect(from).toBe('n1.a')
              call.write(encodeOpening({ welcome, proof: proofOf(secret, 'listener', path, hello, welcome) }))
            } else if (proof === undefined) {
              messages.push(message)
              told()
            }
          })
        },
      },
    )
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    )
    node.addresses.set('n2.b', `127.0.0.1:${port}`)
    node.peer.send('n2.b', { kind: 'beat', life: 0 })
    await node.until(() => node.events.some(({ event }) => event === 'connected'))
    for (let turn = 0; turn < 3; turn++) {
      const came = new Promise<void>((resolve) => (told = resolve))
      for (let life = 0; life < 200; life++) node.peer.send('n2.b', { kind: 'beat', life })
      await came
      expect(messages.length).toBe(turn + 1)
    }
    const expected = new PacketWriter()
    for (let life = 0; life < 200; life++) expected.item({ kind: 'beat', life })
    const packet = expected.take().subarray(5)
    for (const message of messages) expect(message.equals(packet)).toBe(true)
    server.forceShutdown()
  })
})

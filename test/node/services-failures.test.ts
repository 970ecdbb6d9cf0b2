/** /svc where registering fails half way, or two come at once: what is left, and what a second try gives. */
import { expect, it } from 'vitest'
import { EmbeddedRegistry } from '../../discovery/embedded.ts'
import { systemClock } from '../../namespace/clock.ts'
import { contextFor } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import { computed } from '../../namespace/serve/entries.ts'
import { serveTable } from '../../namespace/serve/table-server.ts'
import { Catalog } from '../../services/svc/catalog.ts'
import { Services } from '../../services/svc/services.ts'
import { failure } from './running.ts'

const owner: Principal = { name: 'owner', groups: [] }
const ann: Principal = { name: 'ann', groups: [] }
const eve: Principal = { name: 'eve', groups: [] }

class Disk {
  isFull = false
  readonly memory = new MemoryServer({ owner: 'owner' })
  readonly stores = new Map<string, MemoryServer>()
  /** The memory server, whose writes fail while it is full. */
  readonly server: FileServer = new Proxy<FileServer>(this.memory, {
    get: (memory, name: keyof FileServer) => {
      if (name === 'write' && this.isFull)
        return () => Promise.reject(new NineError({ kind: 'no_space', op: 'test.write', message: 'full' }))
      const method: unknown = Reflect.get(memory, name)
      return typeof method === 'function' ? (method.bind(memory) as unknown) : method
    },
  })

  services(): Services {
    let last = 0
    return new Services({
      registry: new EmbeddedRegistry(systemClock),
      catalog: new Catalog(this.server, () => contextFor(owner)),
      storeFor: async (service, storeOwner) => {
        let store = this.stores.get(service)
        if (store === undefined) this.stores.set(service, (store = new MemoryServer({ owner: storeOwner })))
        return store
      },
      owner,
      node: 'local',
      instanceName: () => `i${++last}`,
      warn: (error) => {
        throw error
      },
    })
  }
}

const table = serveTable({ value: computed(() => 'served') })

function register(services: Services, service: string, principal: Principal, instance?: string) {
  return services.register({ service, instance, names: ['value'], namespace: '' }, principal, table)
}

async function textOf(server: FileServer, path: string, principal = owner): Promise<string> {
  return Buffer.from((await server.read(contextFor(principal), parsePath(path))).bytes).toString()
}

it('a name that two ask for at once goes to one of them', async () => {
  const disk = new Disk()
  const services = disk.services()
  const [first, second] = await Promise.allSettled([register(services, 'both', ann), register(services, 'both', eve)])
  expect(first.status).toBe('fulfilled')
  expect(second.status === 'rejected' && (second.reason as NineError).kind).toBe('denied')
  expect(JSON.parse(await textOf(disk.memory, '/services/both'))).toMatchObject({ owner: 'ann' })
  await failure(register(services, 'both', eve), 'denied')
})

it('a service that found no room below /svc is there when there is room', async () => {
  const services = new Disk().services()
  const processes = []
  for (let i = 0; i < limits.mounts_max / 2; i++) processes.push(await register(services, `s${i}`, ann))
  const { count } = services
  await failure(register(services, 'late', ann), 'too_large')
  expect(services.count).toBe(count)
  for (const live of processes.slice(0, 2)) await live.deregister()
  await register(services, 'late', ann, 'one')
  expect(await textOf(services.server, '/late/value')).toBe('served')
  expect(await textOf(services.server, '/late@one/value')).toBe('served')
})

it('a store that could not be remembered is not shown as if it were, and is there after a second try', async () => {
  const disk = new Disk()
  const services = disk.services()
  await register(services, 'kept', ann)
  disk.isFull = true
  await failure(services.makeStore('kept', ann), 'no_space')
  await failure(
    Promise.resolve().then(() => services.storeOf('kept')),
    'not_found',
  )
  disk.isFull = false
  await services.makeStore('kept', ann)
  await services.server.write(contextFor(ann), parsePath('/kept/stored'), Buffer.from('x'))
  const again = disk.services()
  await again.load((_service, error) => {
    throw error
  })
  expect(await textOf(again.server, '/kept/stored', ann)).toBe('x')
})

/** A node of a cluster shows the services that are registered at the others: it follows what the cluster remembers of them. */
import { pause } from '../cluster/founding.ts'
import type { Catalog } from '../svc/catalog.ts'
import type { Services } from '../svc/services.ts'

const again_ms = 1_000

/** Until the function it gives is called. @param warn told of failures, which are tried again */
export function followServices(catalog: Catalog, services: Services, warn: (error: unknown) => void): () => Promise<void> {
  const stop = new AbortController()
  const { signal } = stop
  const running = (async () => {
    while (!signal.aborted) {
      try {
        // What changed before the watch began is looked at first.
        const changes = catalog.changes(signal)[Symbol.asyncIterator]()
        const first = changes.next()
        first.catch(() => undefined)
        for (const record of await catalog.load((_service, error) => warn(error))) await services.heard(record)
        for (let step = await first; step.done !== true; step = await changes.next()) await services.heard(step.value)
      } catch (error) {
        if (!signal.aborted) warn(error)
      }
      await pause(again_ms, signal)
    }
  })()
  return async () => {
    stop.abort()
    await running
  }
}

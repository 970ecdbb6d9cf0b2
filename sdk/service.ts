/** What a service is, before it is served: a name, a table of entries, what it mounts from others, whether it keeps files. */
import type { Entry, Table } from '../namespace/serve/entries.ts'

/** An entry that shows a path of the service's own namespace: something it mounted from another service. */
export interface MountedEntry {
  readonly kind: 'mounted'
  readonly path: string
}

export function mounted(path: string): MountedEntry {
  return { kind: 'mounted', path }
}

export interface ServiceTable {
  readonly [name: string]: Entry | MountedEntry
}

export interface ServiceOptions {
  /** Lines of a namespace file: `mount SERVICE PATH`, `bind [-b|-a] [-c] NEW OLD`. What the service sees is this and its owner's namespace. */
  readonly namespace?: string | undefined
  /** Keep files: a durable store of the service's own, at `/store` in its namespace and shown at `/svc/NAME`. */
  readonly store?: boolean | undefined
}

export interface ServiceDefinition {
  readonly name: string
  readonly table: Table
  /** Paths of the service's namespace by the name they are shown under. */
  readonly mounted: ReadonlyMap<string, string>
  readonly namespace: string
  readonly hasStore: boolean
}

/** Say what a service serves; serve() serves it. */
export function defineService(name: string, table: ServiceTable, options: ServiceOptions = {}): ServiceDefinition {
  const entries: Record<string, Entry> = {}
  const shown = new Map<string, string>()
  for (const [key, entry] of Object.entries(table)) {
    if (entry.kind === 'mounted') shown.set(key, entry.path)
    else entries[key] = entry
  }
  return { name, table: entries, mounted: shown, namespace: options.namespace ?? '', hasStore: options.store === true }
}

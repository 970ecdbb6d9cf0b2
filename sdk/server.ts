/** For programs that are services: `import { defineService, serve } from 'ninefold/server'`. */
export { serve } from './serve.ts'
export type { ServeOptions, ServingSession } from './serve.ts'
export { defineService, mounted } from './service.ts'
export type { MountedEntry, ServiceDefinition, ServiceOptions, ServiceTable } from './service.ts'
export { call, computed, ctl, directory, file, stream } from '../namespace/serve/entries.ts'
export type { Call, Entry, GeneratedChildren, Output, Table } from '../namespace/serve/entries.ts'
export { serveTable } from '../namespace/serve/table-server.ts'
export { NineError } from '../namespace/errors.ts'

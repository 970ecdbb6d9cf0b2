/** The store passes the suite, without an exception. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEngine } from '../../storage/engine/engine.ts'
import { fileServerSuite } from './file-server-suite.ts'

fileServerSuite('store', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'nine-store-'))
  const engine = await openEngine({ dir, owner: 'owner' })
  const server = await engine.createStore('data')
  return {
    server,
    context: (principal = { name: 'owner', groups: [] }) => ({ principal, deadline: performance.now() + 20_000 }),
    close: async () => {
      await engine.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
})

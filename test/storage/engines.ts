/** Engines for the tests of a file, in a folder made for each test; behind it they are closed and the folder is removed. */
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import { openEngine, type Engine, type EngineOptions } from '../../storage/engine/engine.ts'
import { testFolders } from './folders.ts'

export interface TestEngines {
  /** A path in the folder of the test under way. */
  readonly inFolder: (...names: string[]) => string
  /** In the folder `data` of it unless told. */
  readonly open: (options?: Partial<EngineOptions>) => Promise<Engine>
}

/** What a file does behind each of its tests comes before this closes them, if it is said after. */
export function testEngines(): TestEngines {
  const makeFolder = testFolders()
  let folder: string
  const opened: Engine[] = []
  beforeEach(() => {
    folder = makeFolder()
  })
  afterEach(async () => {
    for (const engine of opened.splice(0)) await engine.close()
  })
  const inFolder = (...names: string[]): string => join(folder, ...names)
  return {
    inFolder,
    open: async (options) => {
      const engine = await openEngine({ dir: inFolder('data'), owner: 'owner', ...options })
      opened.push(engine)
      return engine
    },
  }
}

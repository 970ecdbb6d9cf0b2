/** Folders for the tests of a file, removed behind each test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach } from 'vitest'

/** @returns what makes a folder; what a file closes behind its tests comes before they are removed, if it is said after */
export function testFolders(): () => string {
  const made: string[] = []
  afterEach(() => {
    for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true })
  })
  return () => {
    const folder = mkdtempSync(join(tmpdir(), 'nine-storage-'))
    made.push(folder)
    return folder
  }
}

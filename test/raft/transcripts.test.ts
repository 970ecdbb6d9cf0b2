/** Runs `transcripts/*.txt`. `UPDATE=1 npx vitest run test/raft/transcripts.test.ts` rewrites them: read the difference before it is kept. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runTranscript } from './interpreter.ts'

const folder = join(import.meta.dirname, 'transcripts')

describe('raft transcripts', () => {
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.txt'))) {
    it(file, () => {
      const text = readFileSync(join(folder, file), 'utf8')
      const shown = runTranscript(text)
      if (process.env.UPDATE === '1') writeFileSync(join(folder, file), shown)
      else expect(shown).toBe(text)
    })
  }
})

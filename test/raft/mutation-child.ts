/**
 * Run in a copy of the tree whose core has one deliberate bug: goes through the transcripts and then the simulation, prints what found the
 * bug, and exits with 1; with 0 if nothing did.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { runTranscript } from './interpreter.ts'
import { simulate } from './simulation.ts'

const seeds = Number(process.argv[2])
const folder = join(import.meta.dirname, 'transcripts')
const found: string[] = []

for (const file of readdirSync(folder)) {
  const text = readFileSync(join(folder, file), 'utf8')
  try {
    if (runTranscript(text) !== text) found.push(`${file} differs`)
  } catch (error) {
    found.push(`${file}: ${(error as Error).message}`)
  }
}
let seed = 1
try {
  while (seed <= seeds) simulate(seed++)
} catch (error) {
  found.push((error as Error).message)
}
console.log(JSON.stringify(found))
process.exitCode = found.length > 0 ? 1 : 0

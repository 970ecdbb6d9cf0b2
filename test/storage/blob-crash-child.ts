/** Puts chunks for ever and prints the hash of each that was answered; the crash test kills it. */
import { randomBytes } from 'node:crypto'
import { writeSync } from 'node:fs'
import { openFileBlobs } from '../../storage/blob/files.ts'

const store = await openFileBlobs({ folder: process.argv[2] ?? '' })
await Promise.all(
  Array.from({ length: 12 }, async () => {
    for (;;) writeSync(1, `${await store.put(randomBytes(50_000))}\n`)
  }),
)

/** Tries to lock a folder when a line comes in, tells how it went, and keeps the lock until it is killed. */
import { toNineError } from '../../namespace/errors.ts'
import { lockFolder } from '../../storage/engine/lock.ts'

const [dir, platform] = process.argv.slice(2)
process.stdin.once('data', () => {
  lockFolder(dir!, platform).then(
    () => console.log('locked'),
    (error: unknown) => console.log(toNineError(error, 'test').kind),
  )
})
console.log('ready')

/** What of the contract 9P does not promise, test by test. namespace/ninep/README.md says the same as a table. */
import type { Skip } from './file-server-suite.ts'

const noPast = '9P shows no past, no positions and no versions to wait for'
const noPosition = 'answers of a 9P server show no position'
const noWatch = '9P tells nobody of changes'
const noLeases = '9P has no leases, and its locks end with a connection'
const noContentType = '9P carries no content type'
const noCondition = '9P changes nothing under the condition of a version'
const inSteps = 'a value is made, written and cut in steps, each a change of its own'
const noSnapshot = 'stats of a page are those of its moment: what was removed meanwhile is left out'
const noLinks = '9P2000 has no symbolic links'
const noMoves = '9P2000 moves nothing to another directory'

function tests(why: string, ...names: readonly string[]): Skip[] {
  return names.map((test) => ({ test, why }))
}

/** Of every 9P server. */
export const everywhere: readonly Skip[] = [
  { group: 'consistency', why: noPast },
  { group: 'txn', why: '9P has no transactions' },
  { group: 'watch', why: noWatch },
  { group: 'watch positions', why: noWatch },
  { group: 'watch ends', why: noWatch },
  { group: 'leases', why: noLeases },
  { group: 'locks', why: noLeases },
  { group: 'rights', why: 'a 9P server decides by rules of its own' },
  ...tests(noContentType, 'stat of a file', 'write keeps metadata it does not name', 'attributes of a file made by open'),
  ...tests(noPosition, 'read the whole', 'list gives stats of the children', 'setStat changes metadata'),
  ...tests(noSnapshot, 'pages show one revision while others write', 'pages of a recursive list show one revision'),
  ...tests(
    noCondition,
    'the version seen',
    'nothing there matches no version',
    'a file made again never matches',
    'on remove',
    'on rename',
    'on setStat',
    'of many that compare and set, one wins',
    'a counter loses no increment',
    'a conflict shows at close',
    'ifMatch is looked at when it is opened, and follows sync',
  ),
  ...tests(
    inSteps,
    'stat counts versions and keeps createdRevision',
    'write makes and replaces',
    'appends at the same time all arrive',
    'setStat takes care of bad values',
    'overwriting a part',
    'one write of 4 MiB, and one byte more',
    'writes of many files',
    'writes of one file are in some order',
    'reads see whole values while they are replaced',
    'open and read',
    'staged is seen by the handle alone',
    'close is one change',
    'sync publishes and goes on',
    'discard leaves nothing',
    'a retried append appends once',
    'the same number for another request is invalid',
  ),
  ...tests(noLeases, 'a leased file through a handle'),
  ...tests(noWatch, 'sync publishes', 'what is not synced is published soon'),
  ...tests('9P2000.L knows owners by number, and 9P2000 no links', 'setStat of a link'),
  ...tests('it has a transaction', 'every mutation is once'),
]

/** Of 9P2000. */
export const inPlan9: readonly Skip[] = [
  ...tests('9P2000 has times in seconds', 'times grow with every change', 'write takes the time of modification'),
  { group: 'symlink', why: noLinks },
  ...tests(noLinks, 'list does not enter links', 'on create, mkdir and symlink'),
  ...tests(noMoves, 'rename into another directory', 'rename moves a whole tree', 'directories cannot be moved into each other at once'),
]

/** Of diod, and the Linux below it. */
export const atDiod: readonly Skip[] = [
  ...tests('diod counts no versions', 'read of an empty file', 'create makes an empty file'),
  ...tests('the number of an inode is used again', 'qids are never reused'),
  ...tests('a link of Linux has at most 4,095 bytes', 'a target of 4,096 bytes and one more'),
  ...tests('diod changes the stat of an open file by its name, which another file may have', 'a handle follows rename'),
]

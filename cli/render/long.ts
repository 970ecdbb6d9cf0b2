/** Stats as Unix users know them: modes as letters, times as ls -l shows them, names that cannot hurt a terminal. */
import type { FileKind, Micros, Stat } from '../../namespace/stat.ts'
import type { Output } from '../output.ts'
import { formatBytes } from '../transfer/progress.ts'

const kindLetters: Record<FileKind, string> = { file: '-', directory: 'd', symlink: 'l', computed: 'c', ctl: 'w', call: 'x', stream: 's' }

/** `drwxr-xr-x`; the first letter also tells computed (c), ctl (w), call (x) and stream (s) files. */
export function formatMode(stat: Stat): string {
  const { mode } = stat
  const triple = (shift: number, special: boolean, letter: string): string => {
    const bits = (mode >> shift) & 7
    const execute = (bits & 1) !== 0
    const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? 'x' : '-'
    return `${(bits & 4) === 0 ? '-' : 'r'}${(bits & 2) === 0 ? '-' : 'w'}${last}`
  }
  return (
    kindLetters[stat.kind] +
    triple(6, (mode & 0o4000) !== 0, 's') +
    triple(3, (mode & 0o2000) !== 0, 's') +
    triple(0, (mode & 0o1000) !== 0, 't')
  )
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const half_year_ms = 182 * 24 * 60 * 60 * 1000

/** `Jan  2 15:04` within half a year, `Jan  2  2006` beyond. Local time. */
export function formatListTime(time: Micros, now: number): string {
  const date = new Date(time / 1000)
  const day = `${months[date.getMonth()]!} ${String(date.getDate()).padStart(2)}`
  const isRecent = Math.abs(now - time / 1000) < half_year_ms
  const clock = `${String(date.getHours()).padStart(2, '0')}:${String(date.getMinutes()).padStart(2, '0')}`
  return isRecent ? `${day} ${clock}` : `${day}  ${date.getFullYear()}`
}

/** A name that a terminal shows as it is: control characters escaped, so that no file name moves the cursor. */
export function printable(name: string): string {
  return name.replace(/[\u0000-\u001f\u007f-\u009f]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/** On a terminal what it can take, elsewhere every byte as it is. */
export function shown(output: Output, text: string): string {
  return output.isTerminal ? printable(text) : text
}

export function coloredName(output: Output, stat: Stat, name: string): string {
  const text = shown(output, name)
  const { colors } = output
  switch (stat.kind) {
    case 'directory':
      return colors.bold(colors.blue(text))
    case 'symlink':
      return colors.cyan(text)
    case 'computed':
    case 'stream':
      return colors.magenta(text)
    case 'ctl':
    case 'call':
      return colors.yellow(text)
    case 'file':
      return (stat.mode & 0o111) === 0 ? text : colors.green(text)
  }
}

/** Lines of `ls -l`, columns aligned over all rows given. */
export function longLines(output: Output, rows: readonly { stat: Stat; name: string }[], isHuman: boolean, now: number): string[] {
  const sizes = rows.map(({ stat }) => (stat.size === undefined ? '-' : isHuman ? formatBytes(stat.size) : String(stat.size)))
  const width = (texts: readonly string[]): number => texts.reduce((max, text) => Math.max(max, text.length), 0)
  const sizeWidth = width(sizes)
  const ownerWidth = width(rows.map(({ stat }) => stat.owner || '-'))
  const groupWidth = width(rows.map(({ stat }) => stat.group || '-'))
  const versionWidth = width(rows.map(({ stat }) => String(stat.version)))
  return rows.map(({ stat, name }, i) => {
    const link = stat.target === undefined ? '' : ` -> ${shown(output, stat.target)}`
    return [
      formatMode(stat),
      String(stat.version).padStart(versionWidth),
      (stat.owner || '-').padEnd(ownerWidth),
      (stat.group || '-').padEnd(groupWidth),
      sizes[i]!.padStart(sizeWidth),
      formatListTime(stat.modifiedAt, now),
      coloredName(output, stat, name) + link,
    ].join(' ')
  })
}

/** Names in columns filled downwards, as ls does on a terminal. */
export function columnLines(output: Output, rows: readonly { stat: Stat; name: string }[]): string[] {
  const widths = rows.map(({ name }) => [...printable(name)].length)
  const cell = Math.max(...widths, 1) + 2
  const columns = Math.max(1, Math.floor(output.columns / cell))
  const height = Math.ceil(rows.length / columns)
  const lines: string[] = []
  for (let line = 0; line < height; line++) {
    let text = ''
    for (let i = line; i < rows.length; i += height) {
      const isLast = i + height >= rows.length
      text += coloredName(output, rows[i]!.stat, rows[i]!.name) + (isLast ? '' : ' '.repeat(cell - widths[i]!))
    }
    lines.push(text)
  }
  return lines
}

/** What stat(1) would say, with what is Ninefold's own. @param show how texts of others are shown */
export function statText(path: string, stat: Stat, show: (text: string) => string): string {
  const iso = (time: Micros): string => new Date(time / 1000).toISOString()
  const rows: (readonly [string, string | undefined])[] = [
    ['Path', path],
    ['Kind', stat.kind],
    ['Size', stat.size === undefined ? 'unknown until read' : `${stat.size} bytes`],
    ['Mode', `${stat.mode.toString(8).padStart(4, '0')} ${formatMode(stat)}`],
    ['Owner', stat.owner || '-'],
    ['Group', stat.group || '-'],
    ['Qid', `${stat.qid.path}.${stat.qid.version}`],
    ['Version', String(stat.version)],
    ['Revision', `${stat.revision} (created ${stat.createdRevision})`],
    ['Modified', `${iso(stat.modifiedAt)} by ${stat.modifiedBy || '-'}`],
    ['Created', iso(stat.createdAt)],
    ['Type', stat.contentType],
    ['Target', stat.target],
    ['Blob', stat.blob],
    ['Lease', stat.lease],
  ]
  return rows
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name.padStart(9)}: ${show(value!)}`)
    .join('\n')
}

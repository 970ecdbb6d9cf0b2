/** Progress of long work: a bar on a terminal's standard error, nothing elsewhere. */
import { SingleBar } from 'cli-progress'

export interface Progress {
  add(entries: number, bytes: number): void
  stop(): void
}

export const silentProgress: Progress = { add: () => undefined, stop: () => undefined }

/** @param total entries, when it is known beforehand */
export function terminalProgress(label: string, total?: number): Progress {
  if (!process.stderr.isTTY) return silentProgress
  let entries = 0
  let bytes = 0
  const format =
    total === undefined
      ? `${label} {value} entries · {size}`
      : `${label} [{bar}] {percentage}% · {value}/{total} · {size} · {eta_formatted} left`
  const bar = new SingleBar({ format, stream: process.stderr, fps: 10, hideCursor: true, clearOnComplete: true, etaBuffer: 1000 })
  bar.start(total ?? Number.MAX_SAFE_INTEGER, 0, { size: '0 B' })
  return {
    add: (moreEntries, moreBytes) => {
      entries += moreEntries
      bytes += moreBytes
      bar.update(entries, { size: formatBytes(bytes) })
    },
    stop: () => bar.stop(),
  }
}

/** 1.5 KiB, 20 MiB: three digits, binary units. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]!}`
}

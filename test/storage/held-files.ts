/** The files of a real log, written only when told. */
import { nodeFiles, type WalFiles } from '../../storage/wal/files.ts'

export function heldFiles(): { files: WalFiles; hold: () => void; release: () => void } {
  let isHeld = false
  const held: (() => void)[] = []
  const files: WalFiles = {
    ...nodeFiles,
    open: (path, mode) => {
      const real = nodeFiles.open(path, mode)
      return {
        size: real.size,
        read: (into, position) => real.read(into, position),
        write: (bytes, position) => real.write(bytes, position),
        sync: () => real.sync(),
        writeDurable: (bytes, position, done) => {
          const write = (): void => real.writeDurable(bytes, position, done)
          if (isHeld) held.push(write)
          else write()
        },
        writeDurableSync: (bytes, position) => real.writeDurableSync(bytes, position),
        close: () => real.close(),
      }
    },
  }
  return {
    files,
    hold: () => (isHeld = true),
    release: () => {
      isHeld = false
      for (const write of held.splice(0)) write()
    },
  }
}

/** The working directory of this process in the namespace: the root, but for `nine shell`, where cd moves it. */
import { joinPath, parsePath, rootPath } from '../namespace/path.ts'
import type { Path } from '../namespace/path.ts'

let directory: Path = rootPath

export function workingDirectory(): Path {
  return directory
}

export function changeDirectory(path: Path): void {
  directory = path
}

/** A path as typed, absolute. @throws NineError as parsePath */
export function pathArgument(text: string): Path {
  return text.startsWith('/') ? parsePath(text) : parsePath(joinPath(directory, `/${text}` as Path))
}

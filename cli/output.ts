/** Standard output of the commands: text or JSON, with back-pressure, ended quietly when the reader has had enough. */
import pc from 'picocolors'

export interface Output {
  readonly isJson: boolean
  readonly isTerminal: boolean
  readonly columns: number
  readonly colors: ReturnType<typeof pc.createColors>
  /** One line of text. */
  line(text: string): Promise<void>
  /** One JSON value on a line of its own. */
  json(value: unknown): Promise<void>
  bytes(bytes: Uint8Array | string): Promise<void>
}

export function standardOutput(isJson: boolean): Output {
  const stream = process.stdout
  const bytes = async (data: Uint8Array | string): Promise<void> => {
    if (!stream.write(data)) await new Promise<void>((resolve) => stream.once('drain', resolve))
  }
  const isTerminal = stream.isTTY === true
  return {
    isJson,
    isTerminal,
    columns: stream.columns ?? 80,
    colors: pc.createColors(isTerminal && process.env['NO_COLOR'] === undefined),
    line: (text) => bytes(`${text}\n`),
    json: (value) => bytes(`${JSON.stringify(value)}\n`),
    bytes,
  }
}

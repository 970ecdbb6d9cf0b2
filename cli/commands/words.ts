/** A line as words, with quotes and backslashes as in sh(1); no expansions. */
import { NineError } from '../../namespace/errors.ts'

/** @throws NineError `invalid` for a quote that does not end */
export function splitWords(line: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let quote = ''
  for (let i = 0; i < line.length; i++) {
    const char = line[i]!
    if (quote !== '') {
      if (char === quote) quote = ''
      else if (char === '\\' && quote === '"' && i + 1 < line.length) word += line[++i]!
      else word += char
    } else if (char === "'" || char === '"') {
      quote = char
      word ??= ''
    } else if (char === '\\' && i + 1 < line.length) {
      word = (word ?? '') + line[++i]!
    } else if (/\s/.test(char)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else if (char === '#' && word === undefined) {
      break
    } else {
      word = (word ?? '') + char
    }
  }
  if (quote !== '') throw new NineError({ kind: 'invalid', op: 'cli.shell', message: `the quote ${quote} does not end` })
  if (word !== undefined) words.push(word)
  return words
}

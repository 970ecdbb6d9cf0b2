/** Namespace files: what parses, what is refused and where, and that printing loses nothing. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { parseNamespaceFile, printNamespaceFile } from '../../namespace/namespace-file.ts'
import type { NamespaceLine } from '../../namespace/namespace-file.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)

describe('namespace file', () => {
  it('reads mounts, binds, unmounts, flags, quotes and comments', () => {
    const text = `# my own
mount clock /mnt/clock
mount -a -c nine://host:9581/data/x /data # as well
\tbind -bc  '/data/a b' /c
bind /it''s '/it''s'
unmount /c
unmount '/data/a b' /c\r
`
    expect(parseNamespaceFile(text)).toEqual([
      { verb: 'mount', source: 'clock', at: '/mnt/clock', order: 'replace', create: false, line: 2 },
      { verb: 'mount', source: 'nine://host:9581/data/x', at: '/data', order: 'after', create: true, line: 3 },
      { verb: 'bind', source: '/data/a b', at: '/c', order: 'before', create: true, line: 4 },
      { verb: 'bind', source: '/its', at: "/it's", order: 'replace', create: false, line: 5 },
      { verb: 'unmount', source: undefined, at: '/c', line: 6 },
      { verb: 'unmount', source: '/data/a b', at: '/c', line: 7 },
    ])
  })

  it.each([
    ['\nmount clock', 'line 2: mount takes'],
    ['bind /a /b /c', 'line 1: bind takes'],
    ['unmount', 'line 1: unmount takes'],
    ['unmount /a /b /c', 'line 1: unmount takes'],
    ['bind -x /a /b', 'line 1: -x is none'],
    ['bind - /a /b', 'line 1: -- is none'],
    ['bind -ab /a /b', 'line 1: give -a or -b'],
    ['bind a /b', 'line 1: a path starts with'],
    ['bind /a b', 'line 1: a path starts with'],
    ["mount '' /b", 'line 1: the source is empty'],
    ["mount 'clock /b", 'line 1: a quote is not closed'],
    ['#\n\nrm /', 'line 3: "rm" is none'],
    ['bind /a\0 /b', 'line 1: a name holds no NUL'],
  ])('refuses %j', (text, message) => {
    expect(() => parseNamespaceFile(text)).toThrow(
      expect.objectContaining({ kind: 'invalid', message: expect.stringContaining(message) as string }),
    )
  })

  it('refuses a file over its limit before it reads it', () => {
    const text = '#'.repeat(limits.namespace_file_bytes_max + 1)
    expect(() => parseNamespaceFile(text)).toThrow(expect.objectContaining({ kind: 'too_large' }))
  })

  it('parses what it prints', () => {
    const path = fc.array(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 5 })).map((names) => toPath(names))
    const order = fc.constantFrom('replace' as const, 'before' as const, 'after' as const)
    const source = fc.string({ minLength: 1, maxLength: 12 }).filter((text) => !/[\n\r]/.test(text))
    const line: fc.Arbitrary<NamespaceLine> = fc.oneof(
      fc.record({ verb: fc.constant('mount' as const), source, at: path, order, create: fc.boolean() }),
      fc.record({ verb: fc.constant('bind' as const), source: path, at: path, order, create: fc.boolean() }),
      fc.record({ verb: fc.constant('unmount' as const), source: fc.option(path, { nil: undefined }), at: path }),
    )
    const check = fc.property(fc.array(line), (lines) => {
      const parsed = parseNamespaceFile(printNamespaceFile(lines))
      expect(parsed).toEqual(lines.map((each, i) => ({ ...each, line: i + 1 })))
    })
    fc.assert(check, { seed, numRuns: 500 })
  })

  it('never fails with anything but invalid, whatever the text', () => {
    const word = fc.constantFrom('mount', 'bind', 'unmount', '-a', '-b', '-c', '--', "'", '#', ' ', '\t', '\n', '/a', '/a/../b', '\0', 'x')
    const check = fc.property(fc.array(fc.oneof(word, fc.string({ maxLength: 3 }))), (words) => {
      try {
        parseNamespaceFile(words.join(' '))
      } catch (error) {
        expect(error).toMatchObject({ kind: 'invalid', message: expect.stringMatching(/^line \d+: /) as string })
      }
    })
    fc.assert(check, { seed, numRuns: 2000 })
  })

  it('does not print a name that would become two lines', () => {
    expect(() => printNamespaceFile([{ verb: 'unmount', source: undefined, at: parsePath('/a\nbind /x /y') }])).toThrow(
      expect.objectContaining({ kind: 'invalid' }),
    )
  })
})

function toPath(names: string[]): Path {
  const kept = names.map((name) => name.replaceAll(/[/\0\n\r]/g, '_')).filter((name) => name !== '.' && name !== '..')
  return parsePath(`/${kept.join('/')}`)
}

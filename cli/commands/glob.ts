/** Shell patterns over one name: `*` any characters, `?` one, `[abc]`, `[a-z]`, `[!a]` (glob(7)). */

export function globToRegExp(glob: string): RegExp {
  let source = ''
  for (let i = 0; i < glob.length; i++) {
    const char = glob[i]!
    const close = char === '[' ? glob.indexOf(']', i + 2) : -1
    if (char === '*') source += '.*'
    else if (char === '?') source += '.'
    else if (close !== -1) {
      const set = glob.slice(i + 1, close).replace(/[\\^\]]/g, '\\$&')
      source += set.startsWith('!') ? `[^${set.slice(1)}]` : `[${set}]`
      i = close
    } else source += char.replace(/[\\^$.*+?()[\]{}|]/, '\\$&')
  }
  return new RegExp(`^${source}$`, 's')
}

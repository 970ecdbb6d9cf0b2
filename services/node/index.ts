/** A node inside a program: `import { startNode } from 'ninefold/node'`. */
export { startNode } from './node.ts'
export type { NodeOptions, RunningNode } from './node.ts'

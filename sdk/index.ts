/** Everything a program needs: `import { connect, serve, defineService } from 'ninefold'`. */
export * from './client.ts'
export * from './server.ts'

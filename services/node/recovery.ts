/** For the command line: what is done to a folder while no node has it open. */
export { recoverFolder } from '../cluster/recovery.ts'

/** A principal as it is kept, in a node's file and in a cluster's store `sys`. */
import { z } from 'zod'

/** Of a principal, or of a group. */
export const principalName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._@-]{0,63}$/, 'a name is 1 to 64 of a-z 0-9 . _ @ - and starts with a letter or digit')

export const principalRecord = z.object({ name: principalName, groups: z.array(principalName).max(64), tokenSha256: z.string() })

export type PrincipalRecord = Readonly<z.infer<typeof principalRecord>>

/** The entry of the folder: what a driver, and later the store, need of the core. */
export { step } from './step.ts'
export { makeRaft } from './state.ts'
export type { Raft } from './state.ts'
export type {
  Answer,
  Apply,
  Configuration,
  Effects,
  Entry,
  HardState,
  Input,
  Lost,
  MembershipChange,
  Message,
  NodeId,
  Options,
  Persist,
  Refusal,
  Restored,
  SnapshotMeta,
  Status,
  Ticket,
} from './model.ts'

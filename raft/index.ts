/** The entry of the folder: the driver of a node for the store, and the core for those who look at it alone. */
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
  Install,
  Lost,
  MembershipChange,
  Message,
  NodeId,
  Options,
  Persist,
  Refusal,
  Restored,
  Role,
  SnapshotMeta,
  Status,
  Ticket,
} from './model.ts'
export { Driver } from './driver/driver.ts'
export type { DriverOptions } from './driver/driver.ts'
export type { Group, GroupStatus, PeerStatus } from './driver/group.ts'
export { heirsOf } from './driver/heirs.ts'
export { LogOlder } from './driver/log-older.ts'
export { membersOf } from './quorum.ts'
export { Refused } from './driver/refused.ts'
export type { Reason } from './driver/refused.ts'
export type { Fate, GroupId, Host, Inbound, LogStorage, PeerItem, StateMachine, Transport } from './driver/ports.ts'

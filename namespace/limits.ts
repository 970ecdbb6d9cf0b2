/**
 * Every bound of the system in one place: name with its unit last, its value, and what happens past it.
 *
 * Whoever adds a queue, cache, table or wait adds its limit here.
 */
export const limits = {
  // Names and paths
  /** Longer: `name_too_long`. */
  name_bytes_max: 255,
  /** A request's path; longer: `name_too_long`. */
  path_bytes_max: 1024,

  // Operations
  /** A list page asks for at most this many entries; a larger `limit` is lowered to it. */
  list_page_entries_max: 10_000,
  list_page_entries_default: 1_000,
  /** Encoded size at which a list page is closed, however many entries it was asked for. */
  list_page_bytes_max: 1024 * 1024,
  /** One read answers at most this much (with its stat it fits gRPC's default message of 4 MiB); the caller goes on at the next offset. */
  read_bytes_max: 15 * 256 * 1024,
  /** One write carries at most this much (larger values go through a handle); more: `too_large`. */
  write_bytes_max: 4 * 1024 * 1024,
  /** Largest value of a file; past it: `too_large`. */
  file_bytes_max: 2 ** 44,
  /** Values up to this size stay inside their record; larger ones become chunks. */
  inline_bytes_max: 128 * 1024,
  /** Size of one chunk of a large value. */
  chunk_bytes: 256 * 1024,
  txn_operations_max: 1024,
  txn_bytes_max: 4 * 1024 * 1024,
  /** Content type, owner, group and symlink target; longer: `invalid` (`name_too_long` for a target). */
  attribute_bytes_max: 255,
  symlink_bytes_max: 4096,

  // Sessions and the wire
  /** One frame; a frame that claims more ends the connection with `too_large`. */
  frame_bytes_max: 8 * 1024 * 1024,
  /** Requests of one session being served at once; more: `overloaded`. */
  session_requests_max: 4096,
  /** Bytes of requests of one session being served at once; past it the session is not read until some are done. */
  session_request_bytes_max: 16 * 1024 * 1024,
  /** Watches of one session; more: `overloaded`. */
  session_watches_max: 4096,
  /** Bytes of batches that may be on their way to one watcher, or wait there unread; then the watch waits. */
  watch_credit_bytes: 1024 * 1024,
  /** A larger batch of a watch is sent in parts of about this size. */
  watch_frame_bytes: 256 * 1024,
  /** First frame of a connection; more ends it with `too_large`. */
  handshake_frame_bytes_max: 16 * 1024,
  /** A session on which nothing came for this long is asked whether it lives. */
  session_ping_ms: 10_000,
  /** One on which nothing came for this long is over. */
  session_silent_ms_max: 30_000,
  /** Clients of its own that one session may have beside its first, and one more each `client_idle_ms`: see namespace/remote/sequence.ts. */
  session_clients_max: 64,
  /** Bytes queued towards one session's peer; past it the session is not read, and watches wait. */
  session_send_bytes_max: 16 * 1024 * 1024,
  /** A peer that takes nothing of a full send queue for this long is disconnected. */
  session_stalled_ms: 30_000,
  /** A connection that has not finished its opening (hello, headers, token) by then is closed. */
  handshake_ms: 10_000,
  /** Connections of one node over all edges; more are closed at once. */
  connections_max: 10_000,
  /** Deadline of a request that names none. Streams and watches have none. */
  request_ms_default: 60_000,
  /** Sessions a remote client keeps trying to restore before its operations fail with `unavailable`. */
  reconnect_ms_max: 10_000,
  reconnect_backoff_ms_min: 20,
  reconnect_backoff_ms_max: 2_000,
  /** A client of several nodes: another is dialled when one has not answered by then. */
  nodes_stagger_ms: 250,
  /** How long connect() waits for the other nodes, to see whether all are of one cluster. */
  nodes_check_ms: 500,
  /** A node that refused the client for good is asked again after this. */
  nodes_refused_ms: 30_000,
  /** A node that knows no leader, or none that it reaches, for this long is left for one that does. */
  nodes_leaderless_ms: 2_000,
  /** A node on whose connection nothing came for so long is asked whether it lives, and then left. */
  nodes_ping_ms: 1_000,
  nodes_silent_ms_max: 4_000,
  /** Between attempts of one request that a node cannot serve now. */
  nodes_retry_ms_max: 500,
  /** A client that changed nothing for this long takes a new identity for its next change. */
  client_idle_ms: 10 * 60 * 1000,
  /** A client whose birth is further in the future is refused: clocks of nodes may differ, not that much. */
  client_ahead_ms_max: 24 * 60 * 60 * 1000,
  /** Unsettled requests of one client; more: `overloaded` at once, without a frame. */
  client_requests_max: 4096,

  // HTTP
  /** Body of one PUT; more: `too_large`. */
  http_body_bytes_max: 16 * 1024 * 1024 * 1024,
  /** Body of a JSON request (transactions carry base64); more: `too_large`. */
  http_json_bytes_max: 8 * 1024 * 1024,
  /** A body of which nothing arrives for this long ends with `deadline`. */
  http_body_stalled_ms: 30_000,
  /** Request line and headers; more: 431, the connection closes. */
  http_header_bytes_max: 16 * 1024,
  http_headers_max: 100,
  /** Requests of one connection that wait behind its answers; more: the connection is closed. */
  http_pipelined_max: 256,
  /** An idle kept-alive connection is closed after this long. */
  http_idle_ms: 65_000,
  /** A body up to this size is read in memory without asking for room; what is left of it when refused is read and dropped. */
  http_body_memory_bytes_max: 64 * 1024,
  /** Larger bodies being read in memory, together; past it the next one waits unread, then: `overloaded`. */
  http_bodies_memory_bytes_max: 128 * 1024 * 1024,
  /** What is left of a larger body after it was refused is read and dropped up to this much and this long, so that the answer arrives. */
  http_drain_bytes_max: 64 * 1024 * 1024,
  http_drain_ms: 5_000,
  /** What a call file answers over HTTP; more: `too_large`. */
  call_answer_bytes_max: 64 * 1024 * 1024,
  /** Values are sent in parts of this size, one at a time for each reader. */
  http_part_bytes: 256 * 1024,
  /** A watch that was not refused by then has its head sent; a later failure is told as an event. */
  http_watch_refusal_ms: 50,
  /** Longest Idempotency-Key; longer: `invalid`. */
  idempotency_key_bytes_max: 255,
  /** Keys, and bytes of their answers, that one edge remembers; past it the oldest is left to the store's table. */
  idempotency_keys_max: 10_000,
  idempotency_bytes_max: 32 * 1024 * 1024,

  // 9P servers that are mounted
  /** Largest message offered to a 9P server. */
  ninep_client_msize: 1024 * 1024,
  /** Requests on their way to one 9P server; others wait in turn. */
  ninep_client_outstanding_max: 256,
  /** Requests that wait in turn; more: `overloaded`. */
  ninep_client_waiting_max: 16_384,
  /** Bytes queued towards a 9P server; past it requests wait. */
  ninep_client_send_bytes_max: 16 * 1024 * 1024,
  /** Fids held at one 9P server; more: `overloaded`. */
  ninep_client_fids_max: 65_536,
  /** Parts of one value on their way at once. */
  ninep_client_parts_max: 8,
  /** Names of one directory; more: `too_large`. */
  ninep_client_names_max: 1_000_000,
  /** Bytes that a server lists one directory in, whatever of it is a name; more: `too_large`. */
  ninep_client_listing_bytes_max: 256 * 1024 * 1024,
  /** Names kept between the pages of listings; past it the oldest listing is read again when it goes on. */
  ninep_client_names_kept_max: 1_000_000,
  /** Listings whose names are kept. */
  ninep_client_listings_max: 64,
  /** A file of which an atomic handle stages a value has at most this much; more: `too_large`. */
  ninep_client_staged_bytes_max: 64 * 1024 * 1024,

  // 9P
  /** Largest message, which a connection agrees on; a message that claims more ends the connection. */
  ninep_msize_max: 1024 * 1024,
  /** A client that offers less gets an error: nothing useful fits. */
  ninep_msize_min: 4096,
  /** Fids of one connection; more: `overloaded`. */
  ninep_fids_max: 65_536,
  /** Authentication files of one connection; more: `overloaded`. */
  ninep_auth_fids_max: 64,
  /** Requests of one connection being served at once; more: `overloaded`. */
  ninep_requests_max: 8192,
  /** Bytes of requests being served at once, and of answers that wait; past either the connection is not read. */
  ninep_request_bytes_max: 16 * 1024 * 1024,
  ninep_send_bytes_max: 16 * 1024 * 1024,
  /** Cookies of one open directory kept one by one: see services/9p/directory.ts. */
  ninep_directory_cookies_max: 16_384,
  /** Byte-range locks of one node; more: `overloaded`. */
  ninep_locks_max: 16_384,
  /** What is written to an authentication file; more: `too_large`. */
  ninep_token_bytes_max: 4096,

  // Watches
  /** Events waiting for one watcher; past it the watch ends with `overloaded` and where to resume. */
  watch_queue_events_max: 4096,
  watch_queue_bytes_max: 4 * 1024 * 1024,
  /** Watches of one node; more: `overloaded`. */
  watches_max: 20_000,
  /** An idle watch tells how far it has seen this often. */
  watch_progress_ms: 5_000,

  // Handles and leases
  /** Open handles of one session; more: `overloaded`. */
  session_handles_max: 10_000,
  handles_max: 100_000,
  /** Bytes staged in memory by one atomic handle before they are made chunks. */
  handle_staged_bytes_max: 4 * 1024 * 1024,
  /** Bytes that shared handles write to one file before they are published, at the latest after handle_publish_ms. */
  handle_layer_bytes_max: 8 * 1024 * 1024,
  /** Bytes staged in memory by all handles of a store; past it a shared handle's write waits, an atomic one's is `overloaded`. */
  handles_staged_bytes_max: 64 * 1024 * 1024,
  /** A shared handle's bytes are published at the latest after this long. */
  handle_publish_ms: 1_000,
  lease_ttl_ms_min: 100,
  lease_ttl_ms_max: 24 * 60 * 60 * 1000,
  leases_max: 100_000,
  /** Files of one lease, which all end in one change; more: `too_large`. */
  lease_files_max: 1024,
  /** Requests of one memory server that wait for a lock; more: `overloaded`. */
  lock_waiters_max: 10_000,
  /** A lease or ttl has ended, and its files are gone, at the latest this long after its time. */
  lease_expiry_ms_max: 1_000,

  // Exactly once
  /** Clients whose results a store remembers; past it the one idle longest is forgotten. */
  clients_max: 10_000,
  /** Results kept for one client above its watermark; more in flight: `overloaded`. */
  client_results_max: 8_192,
  /** About what these results take; past it: `overloaded` until the client settles some. */
  client_results_bytes_max: 16 * 1024 * 1024,
  /** About what the results of all clients of a store take; past it the one idle longest is forgotten. */
  clients_bytes_max: 64 * 1024 * 1024,
  /** Results a server in memory keeps over all clients; past it the client idle longest is forgotten. */
  once_answers_max: 131_072,

  // Clusters
  /** Nodes of one cluster; more: `invalid` for `--peers`, `overloaded` for `nine raft add`. */
  cluster_nodes_max: 15,
  /** One question of a node to a peer before it belongs to a cluster: what is asked again soon. */
  cluster_ask_ms_max: 2_000,
  /** How often a node that waits for its peers asks them again. */
  cluster_ask_again_ms: 300,
  /** A node whose flags do not fit its peers' answers them this much longer, so that they hear of it too. */
  cluster_refused_ms: 1_000,
  /** How often a leader looks whether the members of its group are those of the cluster. */
  cluster_reconcile_ms: 250,
  /** How often a member that knows no leader asks whether it was removed. */
  cluster_removed_ask_ms: 1_000,
  /** Removed members that a cluster remembers, so that they are told; the oldest are forgotten. */
  cluster_removed_max: 256,
  /** Who makes or ends a token waits so long for the other nodes to have heard of it; those that have not are named. */
  identity_told_ms: 2_000,
  /** Restores that a store remembers as made or given up; of more the oldest are forgotten. */
  restores_known_max: 64,
  /** A restore that a node cannot make, since its disk is full or chunks are out of reach, is tried again after this. */
  restore_again_ms: 1_000,
  /** A restore of a store that serves is agreed on and made here within this time, or its outcome is unknown to who asked. */
  restore_made_ms_max: 60_000,
  /** A backup that was claimed, and is not restored, is given up when nobody goes on with it for so long: longer than `restore_made_ms_max`. */
  restore_idle_ms_max: 90_000,
  /** How often backups are looked for that no node needs any more. */
  restore_sweep_ms: 500,
  /** A backup that was uploaded and never restored is removed after this. */
  restore_upload_ms_max: 24 * 3_600_000,
  /** Backups that one node makes at once; more: `overloaded`. */
  backups_max: 4,
  /** A node that ends waits this long at most for others to take over what it leads. */
  cluster_hand_over_ms_max: 5_000,

  // Replicas
  /** What waits for the cluster and has no deadline of its own; past it: `deadline`. */
  replica_wait_ms_max: 60_000,
  /** While a snapshot is sent, so many entries behind it, and bytes of them, stay in memory for whoever gets it; past it a newer one is sent. */
  raft_transfer_kept_entries_max: 1_000_000,
  raft_transfer_kept_bytes_max: 256 * 1024 * 1024,
  /** A collection of chunks waits so long for what was agreed on to be here; then it is put off. */
  replica_collect_wait_ms: 5_000,
  /** A member that closes waits so long for what its open files hold to be agreed on. */
  replica_drain_ms: 5_000,
  /** Chunks pushed to a peer with one call. */
  replica_push_chunks_max: 64,
  /**
   * A store that has had no leader on a node for longer, which an election takes not: what waits for one there is refused (`unavailable`),
   * the node is not ready (/readyz), and its log says so.
   */
  raft_leaderless_ms_max: 5_000,
  /** A tick is the unit of Raft's time. */
  raft_tick_ms: 100,
  /** A follower that hears of no leader for one to two times this campaigns. */
  raft_election_ticks: 10,
  raft_heartbeat_ticks: 1,
  /** A group that was idle for so many ticks stops its clock. */
  raft_quiesce_ticks: 50,
  /** What one turn of the event loop applies at most: answers of the first leave, and are read, while the others are applied. */
  raft_apply_entries_max: 100,
  raft_apply_bytes_max: 4 * 1024 * 1024,
  /** A leader whose disk wrote nothing of what waits for so many ticks hands over, one whose disk is full at once; */
  raft_disk_stuck_ticks: 20,
  /** and again after so many ticks in which that lasts. */
  raft_hand_over_again_ticks: 100,
  raft_append_bytes_max: 1024 * 1024,
  /** Appends on their way to one follower, and their bytes. */
  raft_inflight_appends_max: 256,
  raft_inflight_bytes_max: 16 * 1024 * 1024,
  /** A snapshot that could not take the place of a store's state, as on a full disk, is tried again after this long, then twice as long, */
  replica_install_again_ms: 250,
  /** and at most this long. */
  replica_install_again_ms_max: 30_000,
  /** Proposals that are not agreed on; more: `overloaded`. */
  raft_uncommitted_bytes_max: 64 * 1024 * 1024,
  /** How long followers may learn later of a commit, in a store that is written to all the time: the next entry tells them too. */
  raft_commit_wait_ms: 1,
  raft_reads_pending_max: 4096,
  /** A learner further behind than this is not promoted. */
  raft_promotion_lag_entries_max: 1000,
  /** Entries kept in memory behind the newest checkpoint for followers that are behind; further back they are sent a snapshot. */
  raft_kept_entries_max: 10_000,
  raft_kept_bytes_max: 16 * 1024 * 1024,

  // Peers: the nodes of a cluster, towards each other
  /** A turn that gives one peer more than this sends it before the turn is over. */
  peer_packet_bytes: 512 * 1024,
  /** One message between peers; one that claims more ends the connection, a request that is larger is `too_large`. */
  peer_message_bytes_max: 16 * 1024 * 1024,
  /** Bytes waiting for one peer; past it what Raft sends is dropped, and requests are `overloaded`. */
  peer_send_bytes_max: 32 * 1024 * 1024,
  /** Requests of one peer connection without an answer; more: `overloaded`. */
  peer_requests_max: 16_384,
  /** Bytes of requests of one peer connection being served at once; past it they are `overloaded`. */
  peer_serving_bytes_max: 32 * 1024 * 1024,
  /** How often deadlines and silence of peers are looked at. */
  peer_tick_ms: 100,
  /** A connection on which nothing came for this long is asked whether it lives. */
  peer_ping_ms: 1_000,
  /** One on which nothing came for this long is over. */
  peer_silent_ms_max: 4_000,
  /** Connecting to a peer, with TLS and hello; past it the attempt has failed. */
  peer_dial_ms: 3_000,
  peer_backoff_ms_min: 20,
  peer_backoff_ms_max: 1_000,
  /** Connections that peers opened; more are closed at once. */
  peer_connections_max: 256,
  /** Of these, those that have not finished their hello; past it the oldest of them is closed. */
  peer_handshakes_max: 64,
  /** Snapshots being sent at once, and as many being received; more wait in turn or are `overloaded`. */
  peer_transfers_max: 2,
  /** Chunks or parts of a snapshot on their way to one peer without an answer. */
  peer_bulk_window: 8,
  /** A connection for snapshots and chunks that nobody used for this long is closed. */
  peer_bulk_idle_ms: 30_000,
  /** A peer that left, cannot be reached, and to which nothing was sent for this long, is dialled again only when something is. */
  peer_unused_ms: 30_000,
  /** Attempts of one transfer that bring no byte further; then it has failed. */
  peer_transfer_attempts_max: 5,
  /** A receiver that has all of a snapshot, and is not done with it, says so this often. */
  peer_transfer_wait_ms: 1_000,

  // Stores
  /** Proposals waiting for the log; more: `overloaded`. */
  proposals_max: 65_536,
  proposal_bytes_max: 64 * 1024 * 1024,
  /** Most bytes of one append to the log. */
  append_bytes_max: 8 * 1024 * 1024,
  /** Most bytes of one change as the log keeps it; more: `too_large`. With its place in a group's log it is a record that every log takes. */
  entry_bytes_max: 8 * 1024 * 1024 - 1024,
  wal_segment_bytes: 64 * 1024 * 1024,
  /** The first segment of a log; each further one is four times as large up to `wal_segment_bytes`. */
  wal_first_segment_bytes: 1024 * 1024,
  /** A write to the log blocks the event loop only where the last ones took no longer than this. */
  wal_blocking_ms_max: 1,
  /** A log that was idle for this long marks its end, so that a later damage of its last record is known as damage. */
  wal_seal_ms: 20,
  /** After the disk was full, appends fail at once with `no_space` for this long before room is looked for again. */
  wal_no_space_retry_ms: 100,
  /** Entries that wait for the log while the disk is full, or the log's queue; past it the log of the groups has failed. */
  group_log_waiting_bytes_max: 1024 * 1024 * 1024,
  /** A group that holds more of the log than this is to write again what it still needs of it, so that the log can be cut. */
  group_log_behind_bytes_max: 256 * 1024 * 1024,
  /** Applied bytes kept in memory before they are written to the tree; past twice this, proposals wait. */
  overlay_bytes_max: 32 * 1024 * 1024,
  /** Applied changes are saved to the tree at the latest after this long, and the log is cut behind them. */
  checkpoint_ms: 10_000,
  /** Rows changed while the database is written anew; past it that ends with `overloaded`. */
  compact_changed_rows_max: 1_000_000,
  /** How often history is compacted and what nothing shows any more is taken away. */
  collect_ms: 60_000,
  /** Size at which a block of a snapshot or backup is closed. */
  snapshot_block_bytes: 256 * 1024,
  /** Of a snapshot being received, so much waits for the disk; past twice that more is not taken. */
  snapshot_unsynced_bytes: 16 * 1024 * 1024,
  /** A block that claims more is damaged: `corrupt`. */
  snapshot_block_bytes_max: 64 * 1024 * 1024,
  /** Nodes of removed trees taken away in one go; the next one goes on. */
  collect_nodes_max: 100_000,
  /** Address space the tree's database reserves at first; it grows past it. */
  tree_map_bytes: 4 * 1024 * 1024 * 1024,
  /** Records and entries of one store kept in memory after they were read from the database. */
  tree_cache_items_max: 32_768,
  history_segment_bytes: 64 * 1024 * 1024,
  /** History kept for reads of the past and watches that resume; older is compacted. */
  history_bytes_max: 1024 * 1024 * 1024,
  history_ms_max: 24 * 60 * 60 * 1000,
  /** Stores of one node. */
  stores_max: 10_000,
  /** A clock this far ahead of ours is refused rather than followed. */
  clock_ahead_ms_max: 60_000,

  // Memory servers
  /** Values of one memory server, those of the past included; more: `no_space`. */
  memory_bytes_max: 256 * 1024 * 1024,
  /** Files and directories of one memory server; more: `no_space`. */
  memory_nodes_max: 2_000_000,
  /** Revisions kept for reads of the past and watches that resume; older are compacted. */
  memory_history_revisions_max: 16_384,
  /** Bytes of values that only the past still shows; past it the oldest revisions are compacted. */
  memory_history_bytes_max: 32 * 1024 * 1024,

  // Large values
  /** Hashes of one index chunk. */
  blob_index_hashes_max: 1024,
  /** Chunks being written to disk at once; others wait in turn. Few, so that the log's own writes find a thread. */
  blob_puts_max: 4,
  /** Chunks being read from disk at once; others wait in turn. */
  blob_gets_max: 8,
  /** Chunks of one value being put at once; a writer that is faster waits. */
  blob_value_puts_max: 6,
  /** Chunks of a value that are read ahead of who reads it in sequence. */
  blob_ahead_chunks: 6,
  /** Chunks read lately, kept for the next reader. */
  blob_cache_bytes_max: 16 * 1024 * 1024,
  /** Index chunks that one value being written holds in memory; past it they are put. */
  blob_value_index_max: 16,
  /** Chunks that one value being written pins one by one; past it its tree so far is put and pinned as a whole. */
  blob_value_pins_max: 2_048,
  /** A chunk that nothing refers to is collected when it is older than this. */
  blob_grace_ms: 10 * 60 * 1000,
  /** Chunks being fetched from other nodes at once; others wait in turn. */
  blob_fetches_max: 8,
  /** Values that wait to have their chunks fetched; past it all values that stand are gone through instead. */
  blob_fill_values_max: 65_536,
  /** Chunks of one value that are looked for at once in the background. */
  blob_fill_chunks_max: 8,
  /** What could not be fetched in the background is tried again after this long. */
  blob_fill_again_ms: 2_000,
  /** What no node had is looked for again after this long, if it still stands. */
  blob_fill_scan_ms: 60_000,

  // Namespaces
  /** Mounts and binds of one namespace; more: `too_large`. */
  mounts_max: 1024,
  union_members_max: 64,
  /** Paths of which a mount table remembers where they lead; past it they are forgotten and walked anew. */
  walk_cache_entries_max: 4096,
  /** Trees one watch follows: mounts below it, counted as often as they are seen. More: `too_large`. */
  watch_members_max: 1024,
  /** Remote hops of one request; more: `loop`. */
  hops_max: 16,
  /** Bytes of a namespace file. */
  namespace_file_bytes_max: 64 * 1024,
  rights_entries_max: 256,

  // Services
  /** Commands written to a ctl file at once; more: `too_large`. */
  ctl_bytes_max: 64 * 1024,
  /** Value that one function gives for one read; more: `too_large`. */
  served_value_bytes_max: 64 * 1024 * 1024,
  /** Names that one generated directory lists; more: `too_large`. */
  served_names_max: 100_000,
  /** Records of a feed that wait for one reader; more: its stream ends with `overloaded`. */
  feed_records_max: 1024,
  /** Live service instances of one node; more: `overloaded`. */
  service_instances_max: 10_000,
  /** Top-level names one service registers; more: `too_large`. */
  service_names_max: 1024,
  /** A service whose process is silent for this long is no longer listed. */
  service_lease_ms: 10_000,

  // Mounts
  /** One operation of a mount; past it the program that asked gets ETIMEDOUT. `nine --timeout` sets another. */
  fuse_request_ms: 30_000,
  /** Names of one directory that a mount lists, which are in memory all at once; more: `too_large`. */
  fuse_names_max: 1_000_000,
  /** How long the kernel believes that a name it has seen is there; what the name stands for is asked anew each time. */
  fuse_entry_ms: 1_000,
  /** How long the removal of a file that is open waits for the rename that may be about to replace it. */
  fuse_unlink_ms: 20,
  /** How often a mount looks whether it was unmounted by somebody else. */
  mount_check_ms: 250,
} as const

/** Those that a part works with, with the changes of whoever wants to see one reached in its own time. */
export function limitsOf<Name extends keyof typeof limits>(
  names: readonly Name[],
  changes: { readonly [name in Name]?: number },
): { readonly [name in Name]: number } {
  const all: Record<keyof typeof limits, number> = limits
  const own = Object.fromEntries(names.map((name) => [name, all[name]])) as Record<Name, number>
  return { ...own, ...changes }
}

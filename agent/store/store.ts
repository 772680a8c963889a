/**
 * The one database of the agent, as the others see it: tables of checksummed records in one
 * LevelDB, and one way to write: `commit`, atomic over all tables it touches.
 *
 * Invariants
 * - What `commit({ sync: true })` resolved for survives a power cut; what one commit wrote is there
 *   whole or not at all.
 * - Commits reach the disk in the order in which they were asked for; waiting ones share one sync.
 * - A value whose checksum fails is never handed out: `get` throws `store_damaged`, `range` skips
 *   it and reports it.
 * - What a failed batch left is taken back when the database is opened again (`doubt.ts`); a crash
 *   before that leaves it whole.
 * - Record numbers are given when a batch is formed and taken back when it fails, so they are dense
 *   over what was committed: a hole is damage and nothing else.
 *
 * - What a database holds is trusted only when it is as the last clean stop left it; see `opening.ts`.
 *
 * On disk: `<dir>/db` is the LevelDB, keys are `<table>/<key>`, values start with a format byte and
 * a checksum (`formats.ts`). Outside of it: `store.json` says that a database must exist, in which
 * format, and how often it was damaged; without it a lost database would look like a first start.
 * `anchor` knows the last committed record number, so that a lost tail is noticed; at most 1,024
 * records late. `ballast` is a file of random bytes, room for the worst moment. `damaged-N` is the
 * last damaged database, as it was found.
 *
 * Full: before the quota or the floor of free space is reached, commits that bring new content are
 * refused, ordinary content first and what is important last; the others go on (`space.ts`). A write that fails (full disk, I/O error) throws
 * `store_not_writable`; the next commit tries the disk with a file, on a full one deletes what is set
 * aside and the ballast, and opens the database again: LevelDB refuses every write after one error,
 * although the fault may be gone. Until then reading goes on.
 * Damaged: copied, repaired and compared at the start, never in place. What cannot be saved is set
 * aside, an empty database takes its place, and `salvage` says so.
 * Restarted on a disk that takes no writes: with `degraded` it starts empty and refuses commits.
 * Held by another process: `start` throws `store_locked` and names it.
 */

export type { MissingCounter } from "./damage.ts";
export { DatabaseStore, type DatabaseStoreOptions } from "./database-store.ts";
export { jsonCodec } from "./json-codec.ts";
export { type KeyValueOpener, openLevel } from "./level.ts";
export type { Codec, Store, Table, Write } from "./port.ts";
export { isImportant, type Room } from "./space.ts";
export { FileVolatileLog, type VolatileLog } from "./volatile-log.ts";

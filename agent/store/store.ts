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
 * - Record numbers are given when a batch is formed and taken back when it fails, so they are dense
 *   over what was committed: a hole is damage and nothing else.
 *
 * On disk: `<dir>/db` is the LevelDB, keys are `<table>/<key>`, values start with a format byte and
 * a checksum. `<dir>/store.json` lies outside it and says that a database must exist and in which
 * format; without it a lost database would look like a first start.
 *
 * When a write fails (full disk, I/O error) the commit throws `store_not_writable`, and the next
 * one tries the disk with a file, then closes and opens the database: LevelDB refuses every write
 * after one error, although the fault may be gone. Until the disk takes writes, reading goes on. When the state folder is held by another process, `start` throws
 * `store_locked` and names it.
 */

export { DatabaseStore } from "./database-store.ts";
export { jsonCodec } from "./json-codec.ts";
export { type KeyValueOpener, openLevel } from "./level.ts";
export type { Codec, Store, Table, Write } from "./port.ts";
export { FileVolatileLog, type VolatileLog } from "./volatile-log.ts";

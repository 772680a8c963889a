/**
 * The local service: an LMQ-compatible message service for one machine (lmq-protocol), for
 * development, tests, demos and small sites.
 *
 * - `Cloud` is the service over a store that somebody else opened: what tests and the demo use.
 * - `LocalCloud` is the same with its own store on disk, from a loaded cloud.toml: what the
 *   subcommand runs.
 * - `prepareDataFolder` makes what a first start needs, `loadCloudConfig` reads cloud.toml.
 *
 * Invariants, and what happens when something is full, broken or restarted, are written where they
 * are kept: access/access.ts decides, broker/broker.ts talks, storage/storage.ts remembers,
 * tokens/tokens.ts issues and revokes, http/http.ts answers queries.
 * mq/mq.ts keeps what consumers read, mq/notices.ts tells who is there, admin/admin.ts takes changes
 * while it runs.
 */
export { askService } from "./admin/admin.ts";
export {
  type Change,
  type CloudSources,
  changeConfig,
  loadCloudConfig,
  pasteableSections,
  prepareDataFolder,
  readChange,
} from "./config/config.ts";
export { LocalCloud } from "./local.ts";
export {
  Cloud,
  type CloudAddresses,
  type CloudDeps,
  type CloudOptions,
  type Directory,
  defaultTimings,
} from "./service/service.ts";

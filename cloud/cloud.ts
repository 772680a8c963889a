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
 * http/http.ts answers queries.
 *
 * Not yet here, with their seams: token mode (a second kind of principal in access), notices and
 * the MQ side (`Broker.publish`, HTTP routes),
 * changes while it runs (the directory is asked at each decision).
 */
export { loadCloudConfig, pasteableSections, prepareDataFolder } from "./config/config.ts";
export { LocalCloud } from "./local.ts";
export {
  Cloud,
  type CloudAddresses,
  type CloudDeps,
  type CloudOptions,
  type Directory,
  defaultTimings,
} from "./service/service.ts";

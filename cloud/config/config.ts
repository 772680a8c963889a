/**
 * cloud.toml: its keys are in keys.ts, load.ts makes the options of the service of them, first-start.ts
 * writes the first one, change.ts adds to it while the service runs.
 */
export { type Change, changeConfig, readChange } from "./change.ts";
export { pasteableSections, prepareDataFolder } from "./first-start.ts";
export { type CloudSources, loadCloudConfig } from "./load.ts";

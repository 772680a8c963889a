import { type ConfigSources, type LoadedConfig, loadConfig } from "../../../agent/config/config.ts";
import { type HoldfastError, isHoldfastError } from "../../../agent/core/errors.ts";
import { MemoryFiles } from "../../support/memory-files.ts";

export const FILE = "/etc/holdfast/holdfast.toml";
export const SECRET = "s3cr3t-never-shown";

/** The least that an agent needs, on lines 1 to 5. */
export const LEAST = `[device]
client_id = "GID_demo@@@gw-01"
[auth]
access_key = "AK"
secret = "${SECRET}"
`;

export interface Given {
  readonly files?: MemoryFiles;
  readonly environment?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
}

export function sources({ environment = {}, flags = [] }: Given = {}): ConfigSources {
  return { file: FILE, environment, flags, folders: { working: "/cwd", home: "/home/op" } };
}

export function load(toml: string, given: Given = {}): LoadedConfig {
  const files = given.files ?? new MemoryFiles();
  if (!files.files.has(FILE)) files.set(FILE, toml);
  return loadConfig(sources(given), files);
}

/** The error of a load that must fail. */
export function failure(act: () => unknown): HoldfastError {
  try {
    act();
  } catch (error) {
    if (isHoldfastError(error)) return error;
    throw error;
  }
  throw new Error("It was expected to fail and did not.");
}

/** The lines below the heading of the error of a load that must fail. */
export function problems(toml: string, given: Given = {}): string[] {
  return failure(() => load(toml, given))
    .message.split("\n")
    .slice(1);
}

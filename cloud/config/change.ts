/**
 * What may be added while the service runs, and how it gets into cloud.toml: the text is kept as it
 * is, comments and all, and the new lines are put where they belong. What comes out is loaded before
 * it is written; if that does not give what was there and the new one, nothing is written.
 */
import { isUtf8 } from "node:buffer";
import { type Files, systemFiles } from "../../agent/config/config.ts";
import { HoldfastError } from "../../agent/core/errors.ts";
import { isGroupId } from "../../agent/protocol/client-id.ts";
import type { Directory } from "../service/service.ts";
import { type CloudSources, loadCloudConfig } from "./load.ts";

export type Change =
  | { readonly kind: "topic"; readonly name: string; readonly ordered: boolean }
  | { readonly kind: "group"; readonly name: string }
  | { readonly kind: "account"; readonly name: string; readonly secret: string };

export interface Changed {
  /** False when it was there already, and nothing was written. */
  readonly added: boolean;
  readonly directory: Directory;
}

/** Throws `request_invalid` for what is no change. */
export function readChange(value: unknown): Change {
  const record = typeof value === "object" && value !== null ? value : {};
  const { kind, name, ordered, secret } = record as Readonly<Record<string, unknown>>;
  if (typeof name !== "string") throw invalid("The name is missing.");
  if (kind === "group") {
    if (isGroupId(name)) return { kind, name };
    throw invalid("A group id begins with GID_ or GID- and has 7 to 64 letters, digits, - and _.");
  }
  if (!/^[0-9A-Za-z_-]{1,64}$/.test(name)) {
    throw invalid("The name of a topic or an account has 1 to 64 letters, digits, - and _.");
  }
  if (kind === "topic") return { kind, name, ordered: ordered === true };
  if (kind === "account" && typeof secret === "string" && /^[\x21-\x7e]{1,256}$/.test(secret)) {
    return { kind, name, secret };
  }
  throw invalid("What can be added is a topic, a group, or an account with its secret.");
}

/**
 * Adds to the file of `sources`, synced. Throws `request_invalid` when one of that name is there
 * that differs, `config_invalid` when the file is wrong or cannot be added to.
 */
export function changeConfig(
  sources: CloudSources,
  change: Change,
  files: Files = systemFiles,
): Changed {
  const { directory } = loadCloudConfig(sources, files).options;
  if (isThere(directory, change)) return { added: false, directory };
  const bytes = files.read(sources.file) ?? new Uint8Array();
  const text = isUtf8(bytes) ? Buffer.from(bytes).toString("utf8") : undefined;
  const next = text === undefined ? undefined : withChange(text, change);
  const loaded = next === undefined ? undefined : tryLoad(sources, next, files);
  if (next === undefined || !loaded || !isThere(loaded, change) || !hasAll(loaded, directory)) {
    throw new HoldfastError(
      "config_invalid",
      `${sources.file} is written in a way that cannot be added to; write this into it:\n` +
        linesOf(change),
    );
  }
  files.writeAtomic(sources.file, next, (files.mode(sources.file) ?? 0o600) & 0o777);
  return { added: true, directory: loaded };
}

function isThere(directory: Directory, change: Change): boolean {
  const { kind, name } = change;
  if (kind === "group") return directory.groups.has(name);
  if (kind === "topic") {
    const topic = directory.topics.get(name);
    if (!topic || topic.ordered === change.ordered) return topic !== undefined;
    const are = topic.ordered ? "an ordered one" : "not an ordered one";
    throw invalid(`The topic ${name} is there already, and is ${are}.`);
  }
  const secret = directory.accounts.get(name);
  if (secret === undefined || secret === change.secret) return secret !== undefined;
  throw invalid(`The account ${name} is there already; its secret is in the configuration.`);
}

function hasAll(next: Directory, before: Directory): boolean {
  return (
    [...before.topics.keys()].every((name) => next.topics.has(name)) &&
    [...before.groups].every((name) => next.groups.has(name)) &&
    [...before.accounts.keys()].every((name) => next.accounts.has(name))
  );
}

function tryLoad(sources: CloudSources, text: string, files: Files): Directory | undefined {
  const withText: Files = {
    writeAtomic: (...all) => files.writeAtomic(...all),
    list: (folder) => files.list(folder),
    mode: (path) => files.mode(path),
    read: (path) => (path === sources.file ? Buffer.from(text) : files.read(path)),
  };
  try {
    return loadCloudConfig(sources, withText).options.directory;
  } catch {
    return undefined; // The file itself was loaded before: it is our lines that do not fit.
  }
}

function linesOf(change: Change): string {
  switch (change.kind) {
    case "topic":
      return `[[instance.topics]]\nname = "${change.name}"\nordered = ${change.ordered}\n`;
    case "account":
      return `[[accounts]]\naccess_key = "${change.name}"\nsecret = ${JSON.stringify(change.secret)}\n`;
    case "group":
      return `[instance]\ngroups = ["${change.name}"]\n`;
  }
}

/** Undefined where the place of the new lines is not found. */
function withChange(text: string, change: Change): string | undefined {
  const whole = text === "" || text.endsWith("\n") ? text : `${text}\n`;
  if (change.kind !== "group") return `${whole}\n${linesOf(change)}`;
  const header = /^[ \t]*\[[ \t]*instance[ \t]*\][^\n]*\n/m.exec(whole);
  if (!header) return `${linesOf(change)}\n${whole}`;
  const start = header.index + header[0].length;
  const next = /^[ \t]*\[/m.exec(whole.slice(start));
  const key = /^[ \t]*groups[ \t]*=[ \t]*\[/m.exec(whole.slice(start));
  if (!key || (next && next.index < key.index)) {
    return `${whole.slice(0, start)}groups = ["${change.name}"]\n${whole.slice(start)}`;
  }
  return intoList(whole, start + key.index + key[0].length, change.name);
}

/** `from`: behind the opening bracket. Strings and comments in the list are passed over. */
function intoList(text: string, from: number, name: string): string | undefined {
  const token = /"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|\]|,|\s+|./gy;
  token.lastIndex = from;
  let needsComma = false;
  let last = from; // Behind the last thing that is no space and no comment.
  for (let found = token.exec(text); found; found = token.exec(text)) {
    const [piece] = found;
    if (piece === "]") {
      const item = `${needsComma ? "," : ""}${last > from ? " " : ""}"${name}"`;
      return `${text.slice(0, last)}${item}${text.slice(last)}`;
    }
    if (/^[\s#]/.test(piece)) continue;
    needsComma = piece !== ",";
    last = token.lastIndex;
  }
  return undefined;
}

function invalid(message: string): HoldfastError {
  return new HoldfastError("request_invalid", message);
}

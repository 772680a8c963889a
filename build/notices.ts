/** The licences of the packages inside a bundle, as they ask to be passed on with copies. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license?: string;
}

const packageFolder = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/;

/** `inputs`: the files of the bundle, relative to `root`. Throws for a package without a licence. */
export function noticesOf(inputs: Iterable<string>, root: string): string {
  const folders = new Set<string>();
  for (const input of inputs) {
    const folder = packageFolder.exec(input)?.[0];
    if (folder !== undefined) folders.add(folder);
  }
  const notices = [...folders].map((folder) => noticeOf(join(root, folder)));
  return [...new Set(notices)].sort().join(`\n${"-".repeat(72)}\n\n`);
}

function noticeOf(folder: string): string {
  const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
  const { name, version, license } = manifest;
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (license === undefined && file === undefined) {
    throw new Error(`${name} names no licence, so it cannot go into the bundle.`);
  }
  const text = file ? readFileSync(join(folder, file), "utf8") : "";
  return `${name} ${version} (${license ?? "see below"})\n\n${text.trim()}\n`;
}

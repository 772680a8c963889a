/** agent/ARCHITECTURE.md is the living design: what a program can compare with the tree, it does. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Zone, zones } from "../../../build/import-law.ts";

const root = join(import.meta.dirname, "..", "..", "..");
/** Without the blanks that the formatter pads its tables with. */
const text = readFileSync(join(root, "agent", "ARCHITECTURE.md"), "utf8").replace(/ {2,}/g, " ");
const lines = new Set(text.split("\n"));

/** One row of the table "Import law", as it must stand there. */
function lawRow(path: string, { face, may, types = [], files = {} }: Zone): string {
  const targets = [may.map(short).join(", ") || "nothing of ours"];
  // A single file that declares a port goes without saying where its folder is named.
  const typed = types.filter((type) => !type.endsWith(".ts")).map(short);
  if (typed.length > 0) targets.push(`types of ${typed.join(", ")}`);
  for (const [names, more] of Object.entries(byTarget(files))) {
    targets.push(`${names}: ${more}`);
  }
  return `| \`${path}\` | ${face === "*" ? "any file" : `\`${face}\``} | ${targets.join("; ")} |`;
}

/** Files that may import the same stand together. */
function byTarget(files: NonNullable<Zone["files"]>): Record<string, string> {
  const groups = new Map<string, string[]>();
  for (const [file, more] of Object.entries(files)) {
    const key = more.map(short).join(", ");
    groups.set(key, [...(groups.get(key) ?? []), `\`${file}\``]);
  }
  return Object.fromEntries([...groups].map(([more, names]) => [names.join(", "), more]));
}

function short(zone: string): string {
  return zone.replace(/^agent\//, "");
}

function foldersIn(path: string): string[] {
  return readdirSync(join(root, path), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => `${path}/${entry.name}`);
}

describe("ARCHITECTURE.md", () => {
  test.each(Object.entries(zones))("has the import law of %s as it is", (path, zone) => {
    expect(lines).toContain(lawRow(path, zone));
  });

  test("has no row of a zone that the law does not know", () => {
    const known = new Set(Object.entries(zones).map(([path, zone]) => lawRow(path, zone)));
    const table = text.split("| zone | face | may import |")[1]?.split("\n\n")[0] ?? "";
    const rows = table.split("\n").filter((line) => line.startsWith("| `"));
    expect(rows.length).toBe(known.size);
    expect(rows.filter((row) => !known.has(row))).toEqual([]);
  });

  test.each([...foldersIn("agent"), ...foldersIn("plugins"), ...foldersIn("cloud")])(
    "says what %s is for",
    (folder) => {
      expect(text).toMatch(new RegExp(`^\\| \`${folder}\` \\| [^|]{10,} \\|`, "m"));
    },
  );

  test("names no file that is not there", () => {
    const named = [...text.matchAll(/`((?:agent|cloud|build|plugins|test)\/[\w./-]+\.\w+)`/g)];
    expect(named.length).toBeGreaterThan(20);
    const missing = named
      .map(([, path = ""]) => path)
      .filter((path) => !existsSync(join(root, path)));
    expect(missing).toEqual([]);
  });
});

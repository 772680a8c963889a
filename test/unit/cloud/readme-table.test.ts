/** cloud/README.md promises a test for every row of the sheet: they are there, by name. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..", "..");
const rows = readFileSync(join(root, "cloud", "README.md"), "utf8")
  .split("\n")
  .map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
  .filter(([section = ""]) => /^[1-8](\.\d)?$/.test(section))
  .map(([section = "", row = "", proof = "", choice = ""]) => ({ section, row, proof, choice }));

/** "`file` "name", "name"" parted by semicolons. */
function proofsIn(proof: string): { readonly file: string; readonly names: readonly string[] }[] {
  return [...proof.matchAll(/`([\w/-]+)`((?:,? "[^"]+")+)(?:; |$)/g)].map(
    ([, file = "", names = ""]) => ({
      file: join("test", file),
      names: [...names.matchAll(/"([^"]+)"/g)].map(([, name = ""]) => name),
    }),
  );
}

/** The name of a test, of a group of tests, or the first cell of a row of a table of tests. */
function hasTest(source: string, name: string): boolean {
  const literal = name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`[([]\\s*(["'\`])${literal}(?:\\1|\\$\\{)`).test(source);
}

describe("the table of cloud/README.md", () => {
  test("has rows for every section of the sheet", () => {
    const sections = [...new Set(rows.map(({ section }) => section))];
    const parts = (count: number, of: number) =>
      Array.from({ length: count }, (_, i) => `${of}.${i + 1}`);
    expect(sections).toEqual([
      ...[...parts(4, 1), "2", "3", ...parts(6, 4), "5", "6", ...parts(3, 7), "8"],
    ]);
    expect(rows.length).toBeGreaterThanOrEqual(100);
  });

  test("has one proof or one of the two other words in each row", () => {
    const open = rows.filter(({ proof }) => proof === "not yet");
    process.stdout.write(`cloud/README.md: ${open.length} of ${rows.length} rows not yet\n`);
    const without = rows.filter(({ proof, choice }) => {
      if (proof === "not yet") return false;
      if (proof === "nothing to prove") return choice === "";
      const rest = proofsIn(proof).reduce(
        (left, { names }) => left - names.length,
        [...proof.matchAll(/"([^"]+)"/g)].length,
      );
      return proofsIn(proof).length === 0 || rest !== 0;
    });
    expect(without).toEqual([]);
  });

  const proven = rows.filter(({ proof }) => proofsIn(proof).length > 0);
  test.each(proven)("$section $row: its tests are there", ({ proof }) => {
    const missing = proofsIn(proof).flatMap(({ file, names }) => {
      // A file of tests, or a suite that several of them use.
      const path = [".test.ts", ".ts"].map((end) => join(root, file + end)).find(existsSync);
      if (path === undefined) return [file];
      const source = readFileSync(path, "utf8");
      return names.filter((name) => !hasTest(source, name)).map((name) => `${file}: ${name}`);
    });
    expect(missing).toEqual([]);
  });

  test("a name that no test has would be found", () => {
    const source = 'it("is there", () => {});\nit.each([["a row", 1]])("%s", () => {});';
    expect(["is there", "a row", "is not there", "there"].map((n) => hasTest(source, n))).toEqual([
      ...[true, true, false, false],
    ]);
  });
});

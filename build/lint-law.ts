/**
 * Writes build/import-law.biome.json: the import law as far as Biome can say it, so that an editor
 * marks a breach while it is typed. Biome sees the words of an import, not the file they lead to;
 * build/check-law.ts knows the rest (one file for a package, types only, the faces in the cloud).
 *
 *   node build/lint-law.ts      after a change of build/import-law.ts
 */
import { writeFileSync } from "node:fs";
import { join, posix } from "node:path";
import { edges, type Zone, zones } from "./import-law.ts";

/** Stands for a folder whose name is not known; never part of a result. */
const someFolder = "_";

/** The file's whole text. */
export function lintLaw(): string {
  const overrides = Object.entries(zones).flatMap(([name, zone]) => overridesOf(name, zone));
  return `${JSON.stringify({ overrides }, null, 2)}\n`;
}

/** One for each depth of a file in the zone, because a path that leaves it looks different there. */
function overridesOf(name: string, zone: Zone): object[] {
  if (name.endsWith(".json")) return [];
  const may = [...zone.may, ...(zone.types ?? [])];
  if (name.endsWith(".ts")) return [override(name, name, may)];
  const single = Object.entries(zone.files ?? {}).map(([file, more]) =>
    override(name, `${name}/${file}`, [...may, ...more]),
  );
  const depths = [`${name}/*.ts`, `${name}/*/*.ts`];
  return [...depths.map((include) => override(name, include, may)), ...single];
}

function override(zone: string, include: string, may: readonly string[]): object {
  const dir = posix.dirname(include).replaceAll("*", someFolder);
  // A zone that is a file shares its folder with others: there every relative path is foreign.
  const outside =
    zone === include ? ["./**", "../**"] : [`${posix.relative(dir, posix.dirname(zone))}/**`];
  const group = [
    ...outside,
    ...["#sdk", "#core/**", "#protocol/**"].filter((alias) => !may.includes(zoneOfAlias(alias))),
    ...may.map((target) => `!${pathTo(dir, target)}`),
  ];
  const message = `The import law (build/import-law.ts) does not allow this from ${zone}.`;
  const options = { paths: foreignPackages(zone), patterns: [{ group, message }] };
  const rules = { style: { noRestrictedImports: { level: "error", options } } };
  return { includes: [include], linter: { rules } };
}

function zoneOfAlias(alias: string): string {
  return `agent/${alias.slice(1).split("/")[0]}`;
}

/** How a file in `dir` writes the face of a zone. */
function pathTo(dir: string, target: string): string {
  const face = zones[target]?.face ?? "*";
  const isFile = /\.(ts|json)$/.test(target);
  const name = target.endsWith("/*") ? "*" : posix.basename(target);
  const file = face === "*" ? "**" : face.replace("<name>", name);
  const path = posix.relative(dir, isFile ? target : `${target}/${file}`);
  return path.startsWith(".") ? path : `./${path}`;
}

function foreignPackages(zone: string): Record<string, string> {
  if (zone.startsWith("plugins")) return {};
  const foreign = Object.entries(edges).filter(
    ([, places]) => !places.some((place) => zone === place || zone.startsWith(`${place}/`)),
  );
  return Object.fromEntries(
    foreign.map(([name, places]) => [name, `Only in ${places.join(", ")}.`]),
  );
}

if (import.meta.main) {
  writeFileSync(join(import.meta.dirname, "import-law.biome.json"), lintLaw());
}

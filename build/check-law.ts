/**
 * Holds the sources to the import law (build/import-law.ts) with resolved paths, so that no way of
 * writing a path gets around it. As a script it checks the project and exits 1 when it is broken.
 */
import { readFileSync } from "node:fs";
import { glob } from "node:fs/promises";
import { builtinModules } from "node:module";
import { dirname, join, posix } from "node:path";
import { edges, systemFiles, systemModules, systemNames, type Zone, zones } from "./import-law.ts";
import { blankComments, type ImportStatement, importsOf, lineAt } from "./source-text.ts";

export interface Breach {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

const aliases: ReadonlyArray<readonly [string, string]> = [
  ["#sdk", "agent/sdk/sdk.ts"],
  ["#core/", "agent/core/"],
  ["#protocol/", "agent/protocol/"],
];
const builtins = new Set(builtinModules);

/** Checks the agent, the plugins and the cloud under `root`; tests and build scripts are free. */
export async function checkLaw(root: string): Promise<Breach[]> {
  const breaches: Breach[] = [];
  const users = new Map<string, string[]>();
  const files: string[] = [];
  for await (const file of glob("{agent,plugins,cloud}/**/*.{ts,mts,js,mjs}", { cwd: root })) {
    if (!file.includes("node_modules")) files.push(file);
  }
  for (const file of files.sort()) {
    const source = readFileSync(join(root, file), "utf8");
    for (const statement of importsOf(source)) {
      const message = judge(file, statement, users);
      if (message) breaches.push({ file, line: statement.line, message });
    }
    breaches.push(...systemUses(file, source));
  }
  return [...breaches, ...sharedEdges(users)];
}

function judge(
  file: string,
  { specifier, typeOnly }: ImportStatement,
  users: Map<string, string[]>,
): string | undefined {
  if (isBuiltin(specifier)) return judgeBuiltin(file, specifier);
  const target = resolveOurs(file, specifier);
  return target ? judgeOurs(file, target, typeOnly) : judgePackage(file, specifier, users);
}

function isBuiltin(specifier: string): boolean {
  return specifier.startsWith("node:") || builtins.has(specifier);
}

function judgeBuiltin(file: string, specifier: string): string | undefined {
  const name = specifier.replace(/^node:/, "");
  if (!systemModules.includes(name) || systemFiles.includes(file)) return undefined;
  return `${specifier}: time comes in as core's Clock`;
}

/** The path in the project that a specifier means; undefined for a package. */
function resolveOurs(file: string, specifier: string): string | undefined {
  if (specifier.startsWith(".")) return posix.join(posix.dirname(file), specifier);
  const alias = aliases.find(([from]) =>
    from.endsWith("/") ? specifier.startsWith(from) : specifier === from,
  );
  return alias && alias[1] + specifier.slice(alias[0].length);
}

function judgeOurs(file: string, target: string, typeOnly: boolean): string | undefined {
  const from = zoneOf(file);
  const to = zoneOf(target);
  if (!from) return `${file} lies in no folder of the law (build/import-law.ts)`;
  if (!to) return `${target} is not for import from here`;
  if (from.path === to.path) return undefined;
  if (typeOnly && from.zone.types?.includes(target)) return undefined;
  const own = file.slice(from.path.length + 1);
  const allowed = [...from.zone.may, ...(from.zone.files?.[own] ?? [])];
  if (typeOnly) allowed.push(...(from.zone.types ?? []));
  if (!allowed.includes(to.law)) {
    const types = from.zone.types?.includes(to.law) ? " anything but types of" : "";
    return `${from.path} may not import${types} ${to.path}`;
  }
  const face = `${to.path}/${to.zone.face.replace("<name>", posix.basename(to.path))}`;
  if (to.zone.face === "*" || target === face) return undefined;
  return `${target} is behind a face: import ${face}`;
}

interface FoundZone {
  /** The folder or file that is the zone. */
  readonly path: string;
  /** Its name in the table, which may stand for several folders. */
  readonly law: string;
  readonly zone: Zone;
}

function zoneOf(file: string): FoundZone | undefined {
  for (let path = file; path !== "."; path = posix.dirname(path)) {
    const exact = zones[path];
    if (exact) return { path, law: path, zone: exact };
    const law = `${posix.dirname(path)}/*`;
    const family = path === file ? undefined : zones[law];
    if (family) return { path, law, zone: family };
  }
  return undefined;
}

function judgePackage(
  file: string,
  specifier: string,
  users: Map<string, string[]>,
): string | undefined {
  const name = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  const places = edges[name];
  const place = places?.find((folder) => file.startsWith(`${folder}/`));
  if (!place) {
    if (!places && file.startsWith("plugins/")) return undefined;
    return places
      ? `the package ${name} may be imported in ${places.join(" and ")} only`
      : `the package ${name} has no place in the law (build/import-law.ts)`;
  }
  const key = `${name} in ${place}`;
  const files = users.get(key) ?? [];
  if (!files.includes(file)) users.set(key, [...files, file]);
  return undefined;
}

/** A third-party package is one file's business. */
function sharedEdges(users: ReadonlyMap<string, readonly string[]>): Breach[] {
  return [...users].flatMap(([key, [first, ...others]]) =>
    others.map((file) => ({
      file,
      line: 1,
      message: `only one file imports ${key}: ${first} does`,
    })),
  );
}

function systemUses(file: string, source: string): Breach[] {
  if (systemFiles.includes(file)) return [];
  const text = blankComments(source, { strings: true });
  return systemNames.flatMap(({ name, pattern }) => {
    const index = text.search(pattern);
    if (index < 0) return [];
    const message = `${name} belongs to core's system clock and random: take a Clock or a Random`;
    return [{ file, line: lineAt(text, index), message }];
  });
}

/** What a lock file must be: usable with any registry, complete for every platform. */
export function checkLock(root: string): Breach[] {
  const file = "package-lock.json";
  const lock = JSON.parse(readFileSync(join(root, file), "utf8")) as {
    packages: Record<string, { resolved?: string; optionalDependencies?: Record<string, string> }>;
  };
  return Object.entries(lock.packages).flatMap(([path, entry]) => {
    const missing = Object.keys(entry.optionalDependencies ?? {}).filter(
      (name) =>
        !lock.packages[`${path}/node_modules/${name}`] && !lock.packages[`node_modules/${name}`],
    );
    const messages = missing.map(
      (name) => `${name} (optional for ${path}) has no entry: npm ci refuses`,
    );
    if (entry.resolved) messages.push(`${path} names a registry host`);
    return messages.map((message) => ({ file, line: 1, message }));
  });
}

if (import.meta.main) {
  const root = dirname(import.meta.dirname);
  const breaches = [...(await checkLaw(root)), ...checkLock(root)];
  for (const { file, line, message } of breaches) {
    process.stderr.write(`${file}:${line}: ${message}\n`);
  }
  process.exitCode = breaches.length > 0 ? 1 : 0;
}

/**
 * Makes node_modules fit the lock file, then runs a script of ours on the right Node:
 *
 *   node build/bootstrap.mjs SCRIPT [ARGS]
 *
 * Plain JavaScript without dependencies, because it must work in a fresh clone under the machine's
 * own Node (20 or later). It is part of each npm script instead of a pre-script, which npm leaves
 * out where install scripts are switched off; and it starts the script itself instead of leaving
 * that to the shell, because a shell remembers where it found the first `node` of a line.
 *
 * Up to date means: the stamp in node_modules names the lock file's hash, or npm's own record of
 * what it installed agrees with the lock file. Two at once: one installs, the other waits for it.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  linkSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { constants } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, "node_modules");
const bin = join(modules, ".bin");
const lockFile = join(root, "package-lock.json");
const stampFile = join(modules, ".holdfast-stamp");
const mutexFile = join(root, ".bootstrap.lock");

const oldestOwnNode = [22, 18];
const oldestBootNode = [20, 0];
const progressEveryMs = 10_000;
const parentCheckMs = 500;
/** A mutex older than this belongs to nobody, whoever has its process id now. */
const mutexLifeMs = 15 * 60_000;
const pinnedHere = process.platform === "linux" && ["x64", "arm64"].includes(process.arch);

/** What the person at the keyboard has to mend; printed without a stack. */
class Refusal extends Error {}

try {
  await bringUpToDate();
  const [script, ...args] = process.argv.slice(2);
  if (script !== undefined) await runScript(resolve(script), args);
} catch (error) {
  if (!(error instanceof Refusal)) throw error;
  say(error.message);
  process.exit(1);
}

async function bringUpToDate() {
  const stamp = wantedStamp();
  if (readText(stampFile) === stamp) return;
  checkBootNode();
  await holdMutex();
  try {
    if (readText(stampFile) === stamp) return;
    if (!installedFits()) await install();
    checkNode();
    writeFileSync(stampFile, stamp);
  } finally {
    rmSync(mutexFile, { force: true });
  }
}

function wantedStamp() {
  const hash = createHash("sha256").update(readFileSync(lockFile)).digest("hex");
  return `${hash} ${process.platform}-${process.arch}${pinnedHere ? "" : ` ${process.version}`}\n`;
}

/** True when npm's record in node_modules names every package of the lock file that belongs here. */
function installedFits() {
  const wanted = packagesOf(lockFile);
  const have = packagesOf(join(modules, ".package-lock.json"));
  if (!wanted || !have) return false;
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === "") continue;
    const found = have[path];
    if (found ? found.integrity !== entry.integrity : !isForElsewhere(entry)) return false;
    if (found && !existsSync(join(root, path, "package.json"))) return false;
  }
  return Object.keys(have).every((path) => path in wanted);
}

function packagesOf(file) {
  const text = readText(file);
  return text === undefined ? undefined : JSON.parse(text).packages;
}

/** Optional and for another machine, or wanted only by such a package. */
function isForElsewhere(entry) {
  if (!entry.optional) return false;
  const fitsHere =
    entry.os?.includes(process.platform) === true &&
    entry.cpu?.includes(process.arch) === true &&
    entry.libc === undefined;
  return !fitsHere;
}

async function install() {
  const count = Object.keys(packagesOf(lockFile)).length - 1;
  say(`installing up to ${count} packages from the lock file (half a minute on a good line)`);
  const startMs = performance.now();
  const seconds = () => Math.round((performance.now() - startMs) / 1000);
  const progress = setInterval(() => say(`still installing, ${seconds()} s`), progressEveryMs);
  const args = ["ci", "--ignore-scripts", "--include=dev", "--include=optional"];
  args.push("--no-audit", "--no-fund", "--loglevel=error");
  const code = await npm(args).finally(() => clearInterval(progress));
  if (code !== 0) {
    throw new Refusal(
      `npm ci ended with ${code}; its message is above. Is the registry reachable?`,
    );
  }
  say(`installed in ${seconds()} s`);
}

/** Runs the npm that started us, on its own Node: the one in node_modules is about to be replaced. */
function npm(args) {
  const script = process.env.npm_execpath;
  const isScript = script !== undefined && /\.c?js$/.test(script);
  const ownNode = process.env.npm_node_execpath;
  const node = ownNode && !ownNode.startsWith(modules) ? ownNode : "node";
  const path = (process.env.PATH ?? "").split(delimiter).filter((dir) => !dir.startsWith(modules));
  const child = spawn(isScript ? node : "npm", isScript ? [script, ...args] : args, {
    cwd: root,
    env: { ...process.env, PATH: path.join(delimiter) },
    stdio: ["ignore", process.stderr, process.stderr],
    shell: !isScript && process.platform === "win32",
  });
  return exitOf(child, "npm");
}

/** In this process where it has the right Node already, else in a child that gets our signals. */
async function runScript(script, args) {
  endWithNpm();
  const node = pinnedHere ? join(bin, "node") : process.execPath;
  if (realpathSync(node) === realpathSync(process.execPath)) {
    process.argv.splice(1, Number.POSITIVE_INFINITY, script, ...args);
    await import(pathToFileURL(script).href);
    return;
  }
  const child = spawn(node, [script, ...args], { stdio: "inherit" });
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  // On a terminal the child gets Ctrl-C itself; a second copy would read as impatience.
  process.on("SIGINT", () => process.stdin.isTTY || child.kill("SIGINT"));
  const code = await exitOf(child, script);
  process.exitCode = typeof code === "number" ? code : 128 + constants.signals[code];
}

/**
 * npm passes a SIGTERM to its shell, and the shell to nobody: the script would go on without a
 * parent. It gets the signal here.
 */
function endWithNpm() {
  if (process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    process.kill(process.pid, "SIGTERM");
  }, parentCheckMs);
  watch.unref();
}

function exitOf(child, name) {
  return new Promise((resolve, reject) => {
    child.once("error", (error) => reject(new Refusal(`${name} did not start: ${error.message}`)));
    child.once("exit", (code, signal) => resolve(code ?? signal));
  });
}

function checkBootNode() {
  if (isAtLeast(process.versions.node, oldestBootNode)) return;
  throw new Refusal(`Node ${oldestBootNode[0]} or later is needed; this is ${process.version}.`);
}

/** The Node that the next step gets must run TypeScript as it is. */
function checkNode() {
  if (!pinnedHere) {
    if (isAtLeast(process.versions.node, oldestOwnNode)) return;
    throw new Refusal(
      `Node ${oldestOwnNode.join(".")} or later is needed on ${process.platform}-${process.arch}; ` +
        `this is ${process.version}. (On Linux x64 and arm64 the project brings its own.)`,
    );
  }
  const run = spawnSync(join(bin, "node"), ["--version"], { encoding: "utf8" });
  const version = run.status === 0 ? run.stdout.trim().slice(1) : undefined;
  if (version !== undefined && isAtLeast(version, oldestOwnNode)) return;
  const why = run.error?.message ?? (run.stderr?.trim() || `it says ${run.stdout?.trim()}`);
  throw new Refusal(
    `The project's own Node does not run here (it needs glibc 2.28 or later): ${why}`,
  );
}

function isAtLeast(version, [major, minor]) {
  const [ownMajor = 0, ownMinor = 0] = version.split(".").map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}

/** Waits until the mutex file is ours. It names its holder, so that a dead one's can be taken. */
async function holdMutex() {
  for (let waited = 0; ; waited++) {
    try {
      writeFileSync(mutexFile, String(process.pid), { flag: "wx" });
      return;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    const holder = readText(mutexFile);
    if (holder !== undefined && isAbandoned(holder)) takeAway(holder);
    else if (waited === 5) say(`waiting for process ${holder}, which is installing`);
    await pause(100);
  }
}

function isAbandoned(holder) {
  const ageMs =
    Date.now() - (statSync(mutexFile, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
  if (ageMs > mutexLifeMs) return true;
  if (holder === "") return ageMs > 5_000; // Created, its name not written yet.
  try {
    process.kill(Number(holder), 0);
    return false;
  } catch (error) {
    return error.code === "ESRCH";
  }
}

/** Removes a dead holder's mutex; one that another process has just taken is put back. */
function takeAway(holder) {
  const aside = `${mutexFile}.${process.pid}`;
  try {
    renameSync(mutexFile, aside);
    if (readText(aside) !== holder) linkSync(aside, mutexFile);
  } catch {
    // Another process was faster: it holds the mutex now, or is about to.
  }
  rmSync(aside, { force: true });
}

function readText(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

function say(text) {
  process.stderr.write(`holdfast: ${text}\n`);
}

/**
 * The file of a unix socket. It becomes visible under its name in one step, already listening and
 * with its mode: it is bound in a private folder beside it, then renamed. A leftover of a dead
 * process is replaced, a live one is an error, and at the end only our own file is removed.
 */
import { chmod, lstat, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { HoldfastError } from "../core/errors.ts";

/** `sun_path` holds 108 bytes with the closing zero (unix(7)). */
const MAX_PATH_BYTES = 107;
const FOLDER_MODE = 0o750;
const SOCKET_MODE = 0o660;

export interface SocketFile {
  readonly path: string;
  remove(): Promise<void>;
}

/** Throws `config_invalid` when `path` cannot be a socket of ours. */
export async function makeSocketFile(
  path: string,
  listen: (path: string) => Promise<void>,
): Promise<SocketFile> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw invalid(`${path} is longer than the ${MAX_PATH_BYTES} bytes that a socket may have`);
  }
  const folder = dirname(path);
  await prepareFolder(folder);
  await refuseTaken(path);
  // 0700, shorter than the final name, and inside: `join` would take the dot for this folder itself.
  const nursery = await mkdtemp(`${folder}/.`);
  try {
    const born = join(nursery, "s");
    await listen(born);
    await chmod(born, SOCKET_MODE);
    const { ino } = await lstat(born);
    await rename(born, path);
    return { path, remove: () => removeOwn(path, ino) };
  } finally {
    await rm(nursery, { recursive: true, force: true });
  }
}

async function prepareFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
  } catch (cause) {
    throw invalid(`the folder ${folder} cannot be made`, cause);
  }
}

/** A file that is no socket, or a socket that somebody answers on. */
async function refuseTaken(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (!found) return;
  if (!found.isSocket()) throw invalid(`${path} exists and is not a socket`);
  if (await answers(path)) throw invalid(`another process answers on ${path}`);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => resolve(true));
    // Refused and gone mean dead. Anything else (no right, backlog full) may be alive: hands off.
    socket.once("error", (error: NodeJS.ErrnoException) => {
      resolve(error.code !== "ECONNREFUSED" && error.code !== "ENOENT");
    });
    socket.once("connect", () => socket.destroy());
  });
}

async function removeOwn(path: string, ino: number): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found?.ino === ino) await rm(path, { force: true });
}

function invalid(problem: string, cause?: unknown): HoldfastError {
  return new HoldfastError(
    "config_invalid",
    `control.dir: ${problem}; set control.dir to a folder of this agent's own.`,
    { cause },
  );
}

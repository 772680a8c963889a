/** A file system of its own, small enough to fill: ext4 on a loop device, gone with the test. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { whyMissing } from "../../build/system-packages.ts";
import { makeTempDir } from "./temp-dir.ts";

const MB = 1_048_576;
const random = new SystemRandom();

/** Why there can be none here; undefined: there can. */
export function whyNoSmallDisk(): string | undefined {
  if (process.getuid?.() !== 0) return "mounting needs root";
  if (!existsSync("/dev/loop-control")) return "there are no loop devices";
  return whyMissing("e2fsprogs") ?? whyMissing("mount");
}

/** Gives the folder that it is mounted on. */
export async function smallDisk(mb: number): Promise<string> {
  const dir = await makeTempDir();
  const image = join(dir.path, "image");
  const at = join(dir.path, "disk");
  await mkdir(at);
  const file = await open(image, "w");
  await file.truncate(mb * MB);
  await file.close();
  execFileSync("mkfs.ext4", ["-q", "-m", "0", image]);
  execFileSync("mount", ["-o", "loop", image, at]);
  onTestFinished(async () => {
    spawnSync("umount", ["-l", at]);
    await dir.remove();
  });
  return at;
}

/** Writes random bytes until nothing more fits. */
export async function fillUp(path: string): Promise<void> {
  const file = await open(path, "w");
  try {
    for (let size = MB; size >= 4_096; ) {
      const written = await file.write(random.bytes(size)).catch(() => undefined);
      if (written === undefined || written.bytesWritten < size) size /= 2;
    }
    await file.sync().catch(() => undefined);
  } finally {
    await file.close();
  }
}

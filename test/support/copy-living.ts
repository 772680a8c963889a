import { cp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "./wait-for.ts";

/**
 * Copies a state folder while its store is open: what a kill at this moment leaves. Again when
 * LevelDB changed its files meanwhile, for such a mixture no kill leaves.
 */
export async function copyLiving(from: string, to: string): Promise<void> {
  await waitFor(
    async () => {
      await rm(to, { recursive: true, force: true });
      const before = await listing(from);
      await cp(from, to, { recursive: true });
      return before === (await listing(from));
    },
    { what: "a database that stays as it is" },
  );
}

async function listing(dir: string): Promise<string> {
  const names = (await readdir(join(dir, "db"))).sort();
  const sizes = names.map(async (name) => `${name} ${(await stat(join(dir, "db", name))).size}`);
  return (await Promise.all(sizes)).join("\n");
}

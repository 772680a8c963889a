/**
 * `npm run campaign -- NAME [ARGS]` runs test/campaign/NAME.ts; `-- list` names them all, each with
 * the first line of its opening comment.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { basename, dirname, join } from "node:path";

const folder = join(dirname(import.meta.dirname), "test", "campaign");
const names = (existsSync(folder) ? readdirSync(folder) : [])
  .filter((file) => file.endsWith(".ts"))
  .map((file) => basename(file, ".ts"))
  .sort();

const [name, ...args] = process.argv.slice(2);
if (name === "list") {
  for (const one of names) process.stdout.write(`${one.padEnd(20)} ${firstDocLine(one)}\n`);
  if (names.length === 0) process.stdout.write("there are no campaigns yet\n");
} else if (name === undefined || !names.includes(name)) {
  const known = names.join(", ") || "none yet";
  process.stderr.write(`usage: npm run campaign -- NAME | list   (${known})\n`);
  process.exitCode = 2;
} else {
  const child = spawn(process.execPath, [join(folder, `${name}.ts`), ...args], {
    stdio: "inherit",
  });
  child.once("exit", (code, signal) => {
    process.exitCode = code ?? 128 + (signal ? constants.signals[signal] : 0);
  });
}

function firstDocLine(campaign: string): string {
  const text = readFileSync(join(folder, `${campaign}.ts`), "utf8");
  return /\/\*\*[\s*]*([^\n]*?)\s*(?:\*\/)?\n/.exec(text)?.[1] ?? "";
}

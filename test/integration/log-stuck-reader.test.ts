import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";

const program = fileURLToPath(new URL("../support/log-flood.ts", import.meta.url));

test("a reader that takes nothing neither stops nor bloats the program, and later hears what it missed", async () => {
  const child = spawn(process.execPath, [program], { stdio: ["pipe", "pipe", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [line] = await once(createInterface(child.stdout), "line");
  const { dropped, heapBytes } = JSON.parse(String(line));
  // 20,000 lines of 300 bytes are 6 MB: a pipe and the buffer hold about a tenth of them.
  expect(dropped).toBeGreaterThan(15_000);
  expect(heapBytes).toBeLessThan(50_000_000);

  const events: { event: string; i?: number; count?: number }[] = [];
  const reader = createInterface(child.stderr);
  reader.on("line", (text) => {
    events.push(JSON.parse(text));
    if (events.at(-1)?.event === "lines dropped") child.stdin.end("go on");
  });
  await once(reader, "close");
  const flood = events.filter(({ event }) => event === "flood");
  expect(flood.map(({ i }) => i)).toEqual(flood.map((_, i) => i));
  expect(flood.length + dropped).toBe(20_000);
  expect(events.find(({ event }) => event === "lines dropped")?.count).toBe(dropped);
  expect(events.at(-1)?.event).toBe("asked");
});

import { spawnSync } from "node:child_process";
import { mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeSocketFile } from "../../../agent/control/socket-file.ts";
import type { Receipt } from "../../../agent/core/message.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";
import { epoch, startControl } from "./fixture.ts";

const mode = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

describe("socket files", () => {
  test("have their modes whatever the umask, and nothing else is in the folder", async () => {
    const before = process.umask(0o077);
    try {
      const { dir } = await startControl();
      expect(await readdir(dir)).toEqual(["holdfast.sock", "producer.sock"]);
      expect(await mode(join(dir, "holdfast.sock"))).toBe(0o660);
      expect(await mode(join(dir, "producer.sock"))).toBe(0o660);
    } finally {
      process.umask(before);
    }
  });

  test("are born inside their folder: beside it the agent may not write", async () => {
    const dir = await tempDir();
    const born: string[] = [];
    const server = createServer();
    const { remove } = await makeSocketFile(join(dir, "holdfast.sock"), async (path) => {
      born.push(dirname(dirname(path)));
      await new Promise<void>((resolve) => server.listen(path, resolve));
    });
    expect(born).toEqual([dir]);
    await remove();
    await new Promise((resolve) => server.close(resolve));
  });

  test("of a dead process are replaced", async () => {
    const dir = await tempDir();
    const path = join(dir, "holdfast.sock");
    const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    spawnSync(process.execPath, ["-e", script]);
    expect((await stat(path)).isSocket()).toBe(true);
    const { ask } = await startControl({}, { dir });
    expect((await ask("GET", "/healthz")).status).toBe(200);
  });

  test("of a living process are an error, and stay", async () => {
    const dir = await tempDir();
    const other = createServer((socket) => socket.end());
    await new Promise<void>((resolve) => other.listen(join(dir, "producer.sock"), resolve));
    await expect(startControl({}, { dir })).rejects.toMatchObject({
      code: "config_invalid",
      message: expect.stringContaining("another process answers"),
    });
    // The one that was made before the failure is gone again, the other's is untouched.
    expect(await readdir(dir)).toEqual(["producer.sock"]);
    await new Promise((resolve) => other.close(resolve));
  });

  test("a file that is no socket is not removed", async () => {
    const dir = await tempDir();
    await writeFile(join(dir, "holdfast.sock"), "precious");
    await expect(startControl({}, { dir })).rejects.toMatchObject({ code: "config_invalid" });
    expect(await readdir(dir)).toEqual(["holdfast.sock"]);
  });

  test("a path over 107 bytes is a configuration error that says so", async () => {
    const base = await tempDir();
    const room = 107 - Buffer.byteLength(join(base, "x", "producer.sock")) + 1;
    const fits = join(base, "d".repeat(room));
    const { ask } = await startControl({}, { dir: fits });
    expect((await ask("GET", "/healthz")).status).toBe(200);
    expect((await ask("GET", "/healthz", { socket: "producer.sock" })).status).toBe(200);
    await expect(startControl({}, { dir: `${fits}d` })).rejects.toMatchObject({
      code: "config_invalid",
      message: expect.stringContaining("107"),
    });
  });

  test("a file where the folder should be is named", async () => {
    const base = await tempDir();
    await writeFile(join(base, "run"), "");
    await expect(startControl({}, { dir: join(base, "run") })).rejects.toMatchObject({
      code: "config_invalid",
    });
  });
});

describe("stopping", () => {
  test("finishes what is in hand, takes nothing new, removes the files, twice is fine", async () => {
    let answer: (() => void) | undefined;
    const put = (): Promise<Receipt> =>
      new Promise((resolve) => {
        answer = () => resolve({ id: `${epoch}-1`, seq: 1, safe: "disk" });
      });
    const { control, dir, ask, dial } = await startControl({ put });
    const idle = await dial();
    const pending = ask("POST", "/v1/messages?topic=t", { body: "x" });
    await waitFor(() => answer);
    const deadline = new AbortController();
    const stopped = control.stop(deadline.signal);
    await waitFor(async () => (await readdir(dir)).length === 0);
    await expect(ask("GET", "/healthz")).rejects.toMatchObject({ code: "ENOENT" });
    answer?.();
    expect((await pending).status).toBe(200);
    await stopped;
    await idle.closed;
    await control.stop(deadline.signal);
  });

  test("gives up at the deadline", async () => {
    let asked = false;
    const put = (): Promise<Receipt> => {
      asked = true;
      return new Promise(() => undefined);
    };
    const { control, ask } = await startControl({ put });
    const pending = ask("POST", "/v1/messages?topic=t", { body: "x" }).catch(() => "cut");
    await waitFor(() => asked);
    const deadline = new AbortController();
    const stopped = control.stop(deadline.signal);
    deadline.abort();
    await stopped;
    expect(await pending).toBe("cut");
  });

  test("does not remove the files of a successor", async () => {
    const dir = join(await tempDir(), "run");
    await mkdir(dir);
    const first = await startControl({}, { dir });
    await first.control.stop(AbortSignal.abort());
    const second = await startControl({}, { dir });
    await first.control.stop(AbortSignal.abort());
    expect((await second.ask("GET", "/healthz")).status).toBe(200);
  });
});

/** The subcommands that speak with a running agent. */
import { link } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import { runCli } from "../../../agent/cli/cli.ts";
import { pageOf } from "../../../agent/control/control.ts";
import { HoldfastError } from "../../../agent/core/errors.ts";
import type { OutgoingMessage, Receipt } from "../../../agent/core/message.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";
import { epoch, sampleStatus, startControl } from "../control/fixture.ts";
import { cli, type Outcome, world } from "./fixture.ts";

const at = (dir: string) => ({ HOLDFAST_CONTROL__DIR: dir });
const parsed = ({ out }: Outcome): unknown => JSON.parse(out);

describe("no agent", () => {
  test.each([
    ["status"],
    ["status", "--json"],
    ["publish", "t", "x"],
    ["outbox", "list"],
    ["outbox", "stats"],
    ["commands", "list"],
    ["commands", "show", "x"],
  ])("%s %s: exit 3 and what to check", async (...argv) => {
    const dir = join(await tempDir(), "none");
    const { status, out, err } = await cli(argv, { env: at(dir) });
    expect([status, out]).toEqual([3, ""]);
    expect(err).toContain(join(dir, "holdfast.sock"));
    expect(err).toContain("HOLDFAST_CONTROL__DIR");
  });

  test("one that died: exit 3 and says so", async () => {
    const { control, dir } = await startControl();
    const kept = await tempDir();
    await link(join(dir, "holdfast.sock"), join(kept, "holdfast.sock"));
    await control.stop(AbortSignal.abort());
    const { status, err } = await cli(["status"], { env: at(kept) });
    expect(status).toBe(3);
    expect(err).toContain("gone");
  });

  test("something else that answers there: exit 3", async () => {
    const dir = await tempDir();
    const other = createServer((_request, response) => response.end("<html>hello</html>"));
    await new Promise<void>((resolve) => other.listen(join(dir, "holdfast.sock"), resolve));
    const { status, err } = await cli(["status"], { env: at(dir) });
    other.close();
    expect(status).toBe(3);
    expect(err).toContain("is not the agent");
  });

  test("--config names the folder, and a missing file is exit 2", async () => {
    const dir = await tempDir();
    const { status, err } = await cli(["status", "--config", join(dir, "none.toml")]);
    expect(status).toBe(2);
    expect(err).toContain("none.toml");
  });
});

describe("status", () => {
  test("--json is the report as one document", async () => {
    const { dir } = await startControl();
    const outcome = await cli(["status", "--json"], { env: at(dir) });
    expect(outcome.status).toBe(0);
    expect(parsed(outcome)).toEqual(sampleStatus);
  });

  test("is readable: plain in a pipe, coloured on a terminal, the same words", async () => {
    const { dir } = await startControl();
    const plain = await cli(["status"], { env: at(dir) });
    expect(plain.out).not.toContain("\u001b");
    expect(plain.out).toMatch(/^connection +online for .*\(mqtt:\/\/127\.0\.0\.1:1883\)$/m);
    expect(plain.out).toMatch(/^telemetry +12 +3\.3 kB +5 s +2 full$/m);
    expect(plain.out).toMatch(/^reply +0 +0 B +- +-$/m);
    expect(plain.out).toContain("outbox.telemetry (warning, for");
    const coloured = await cli(["status"], { env: at(dir), isTty: true });
    expect(coloured.out).toContain("\u001b[32monline");
    expect(stripVTControlCharacters(coloured.out)).toBe(plain.out);
    const refused = await cli(["status"], { env: { ...at(dir), NO_COLOR: "1" }, isTty: true });
    expect(refused.out).toBe(plain.out);
  });

  test("what others wrote cannot steer the terminal", async () => {
    const lastError = { code: "x", message: "\u001b]0;owned\u0007\n\u202eevil" };
    const { dir } = await startControl({
      status: () => ({
        ...sampleStatus,
        connection: { ...sampleStatus.connection, lastError },
      }),
    });
    const { out } = await cli(["status"], { env: at(dir) });
    expect(out).toContain("owned");
    for (const evil of ["\u001b", "\u0007", "\u202e"]) expect(out).not.toContain(evil);
  });

  test("--watch shows it again until it is stopped", async () => {
    const { dir } = await startControl();
    const context = world({ env: at(dir) });
    const done = runCli(["status", "--json", "--watch", "2"], context);
    for (let shown = 1; shown <= 3; shown++) {
      await waitFor(() => context.out().split("\n").length === shown + 1);
      await waitFor(() => context.clock.nextDueMs === 2_000);
      if (shown < 3) await context.clock.advance(2_000);
    }
    context.terminate();
    expect(await done).toBe(0);
  });

  test("an agent that never answers: exit 3 after the time", async () => {
    let asked = false;
    const { dir } = await startControl({
      status: () => {
        asked = true;
        return new Promise(() => undefined);
      },
    });
    const context = world({ env: at(dir) });
    const done = runCli(["status"], context);
    await waitFor(() => asked);
    await context.clock.advance(90_000);
    expect(await done).toBe(3);
    expect(context.err()).toContain("does not answer");
  });
});

describe("publish", () => {
  test("one message with all its options", async () => {
    const { dir, messages } = await startControl();
    const words = "publish a/b hi --lane event --key k --ttl 2 --id p-1 --json".split(" ");
    const outcome = await cli(words, { env: at(dir) });
    expect([outcome.status, outcome.err]).toEqual([0, ""]);
    expect(parsed(outcome)).toEqual({ id: `${epoch}-1`, seq: 1, safe: "disk" });
    expect(messages).toEqual([
      {
        topic: "GW_UP/a/b",
        payload: Buffer.from("hi"),
        lane: "event",
        key: "k",
        ttlMs: 2000,
        producerId: "p-1",
      },
    ]);
  });

  test("says where it is safe", async () => {
    const { dir } = await startControl();
    const { out } = await cli(["publish", "t", "x"], { env: at(dir) });
    expect(out).toBe(`accepted ${epoch}-1, safe on disk\n`);
  });

  test("bytes from stdin, with - and without a payload", async () => {
    const { dir, messages } = await startControl();
    const stdin = [Buffer.from([0, 255]), Buffer.from([10])];
    await cli(["publish", "t", "-"], { env: at(dir), stdin });
    await cli(["publish", "t"], { env: at(dir), stdin });
    const bytes = Buffer.from([0, 255, 10]);
    expect(messages.map(({ payload }) => Buffer.from(payload))).toEqual([bytes, bytes]);
  });

  test("stdin over the limit is refused before anything is sent", async () => {
    const { dir, messages } = await startControl();
    const stdin = [Buffer.alloc(60_000), Buffer.alloc(60_000)];
    const { status, err } = await cli(["publish", "t", "-"], { env: at(dir), stdin });
    expect(status).toBe(1);
    expect(err).toContain("payload_too_large");
    expect(messages).toEqual([]);
  });

  test.each([
    [["publish", "t"]],
    [["publish", "t", "x", "--lines"]],
    [["publish", "t", "--lines", "--id", "x"]],
    [["publish", "t", "x", "--ttl", "-1"]],
  ])("%j is wrong usage", async (argv) => {
    const { dir } = await startControl();
    expect((await cli(argv, { env: at(dir) })).status).toBe(2);
  });

  test("a refusal of the agent comes through with its code", async () => {
    const put = () => Promise.reject(new HoldfastError("lane_full", "The lane bulk is full."));
    const { dir } = await startControl({ put });
    const { status, out, err } = await cli(["publish", "t", "x"], { env: at(dir) });
    expect([status, out]).toEqual([1, ""]);
    expect(err).toBe("holdfast: lane_full: The lane bulk is full.\n");
  });
});

describe("publish --lines", () => {
  test("every line is a message, in order, exact to the byte", async () => {
    const { dir, messages } = await startControl();
    const count = 25_000;
    const all = Buffer.from(
      `${Array.from({ length: count }, (_, n) => `line ${n} ä`).join("\n")}\n`,
    );
    async function* chunks() {
      for (let from = 0; from < all.length; from += 65_536) {
        yield all.subarray(from, from + 65_536);
      }
    }
    const argv = ["publish", "log", "--lines", "--lane", "bulk", "--json"];
    const outcome = await cli(argv, { env: at(dir), stdin: chunks() });
    expect(outcome.status).toBe(0);
    expect(parsed(outcome)).toEqual({ accepted: count, refused: 0, errors: [] });
    expect(outcome.err).toContain(`${count} accepted, 0 refused`);
    const payloads = messages.map(({ payload }) => Buffer.from(payload).toString("utf8"));
    expect(payloads).toEqual(Array.from({ length: count }, (_, n) => `line ${n} ä`));
    expect(new Set(messages.map(({ topic, lane }) => `${topic} ${lane}`))).toEqual(
      new Set(["GW_UP/log bulk"]),
    );
  });

  test("odd endings: CRLF, empty lines, no newline at the end, bytes that are no text", async () => {
    const { dir, messages } = await startControl();
    const stdin = ["a\r", "\n\n\nb", Buffer.from([0xff, 0x00]), "\nc"];
    await cli(["publish", "t", "--lines"], { env: at(dir), stdin });
    expect(messages.map(({ payload }) => Buffer.from(payload).toString("latin1"))).toEqual([
      "a",
      "b\u00ff\u0000",
      "c",
    ]);
  });

  test("refused lines are told with their number, the others go on, exit 1", async () => {
    const put = async (message: OutgoingMessage): Promise<Receipt> => {
      if (Buffer.from(message.payload).toString() === "bad") {
        throw new HoldfastError("lane_full", "Full.");
      }
      return { id: `${epoch}-1`, seq: 1, safe: "broker" };
    };
    const { dir } = await startControl({ put });
    const argv = ["publish", "t", "--lines", "--json"];
    const outcome = await cli(argv, { env: at(dir), stdin: ["ok\n\nbad\nok\n"] });
    expect(outcome.status).toBe(1);
    expect(parsed(outcome)).toEqual({
      accepted: 2,
      refused: 1,
      errors: [{ line: 3, code: "lane_full", message: "Full." }],
    });
    expect(outcome.err).toContain("line 3: lane_full: Full.");
  });

  test("a live source is sent at once, without waiting for a full batch", async () => {
    const { dir, messages } = await startControl();
    async function* live() {
      yield "first\n";
      await waitFor(() => messages.length === 1, { what: "the first line" });
      yield "second\n";
    }
    const outcome = await cli(["publish", "t", "--lines"], { env: at(dir), stdin: live() });
    expect([outcome.status, messages.length]).toEqual([0, 2]);
  });

  test("stdin is not read faster than the agent accepts", async () => {
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const put = async (): Promise<Receipt> => {
      await gate;
      return { id: `${epoch}-1`, seq: 1, safe: "disk" };
    };
    const { dir } = await startControl({ put });
    let read = 0;
    async function* endless() {
      for (let n = 0; n < 200; n++) {
        read++;
        yield "x\n".repeat(500);
      }
    }
    const argv = ["publish", "t", "--lines"];
    const done = cli(argv, { env: at(dir), stdin: endless() });
    await waitFor(() => read > 4);
    const before = await settled(() => read);
    // One batch under way and one that fills: 2,000 lines each, read 500 at a time.
    expect(before).toBeLessThanOrEqual(12);
    open();
    expect((await done).status).toBe(0);
    expect(read).toBe(200);
  });

  test("a line without end stops it, after what was before", async () => {
    const { dir, messages } = await startControl();
    async function* endless() {
      yield "one\n";
      yield "two\nthree\n";
      for (;;) yield "x".repeat(65_536);
    }
    const argv = ["publish", "t", "--lines"];
    const { status, err } = await cli(argv, { env: at(dir), stdin: endless() });
    expect(status).toBe(1);
    expect(err).toContain("Line 4 is over");
    expect(err).toContain("3 accepted, 0 refused");
    expect(messages.length).toBe(3);
  });

  test("an agent that goes away: exit 3", async () => {
    const { dir, control } = await startControl();
    async function* cut() {
      yield "first\n";
      await control.stop(AbortSignal.abort());
      for (let n = 0; n < 50; n++) yield "more\n";
    }
    const { status } = await cli(["publish", "t", "--lines"], { env: at(dir), stdin: cut() });
    expect(status).toBe(3);
  });
});

/** The value once it has stayed the same over several turns of the event loop and the sockets. */
async function settled(probe: () => number): Promise<number> {
  let last = probe();
  let same = 0;
  await waitFor(() => {
    const now = probe();
    same = now === last ? same + 1 : 0;
    last = now;
    return same >= 20;
  });
  return last;
}

describe("lists", () => {
  const waiting = Array.from({ length: 2_500 }, (_, n) => ({
    id: `${epoch}-${n + 1}`,
    lane: "telemetry",
    topic: `GW_UP/t${n}`,
    bytes: n,
    at: 1_767_225_600_000,
  }));
  const journal = [
    { id: "c1", command: "system.ping", from: "G@@@c", admittedAt: 0, status: "succeeded" },
    { id: "c2", command: "evil\u001b[2J", from: "G@@@c", admittedAt: 1, status: "running" },
  ];
  const lists = {
    outbox: (page: Parameters<typeof pageOf>[1]) => pageOf(waiting, page),
    commands: (page: Parameters<typeof pageOf>[1]) => pageOf(journal, page),
  };

  test("outbox list: aligned, up to the limit, and says that there are more", async () => {
    const { dir } = await startControl({ lists });
    const { status, out, err } = await cli(["outbox", "list", "--limit", "3"], { env: at(dir) });
    expect(status).toBe(0);
    const lines = out.trimEnd().split("\n");
    expect(lines.length).toBe(4);
    expect(lines[0]).toMatch(/^id +lane +bytes +accepted +topic$/);
    expect(lines[1]).toMatch(/-1 +telemetry +0 +2026-01-01 00:00:00Z +GW_UP\/t0$/);
    expect(err).toContain("--cursor 3");
  });

  test("outbox list --json over several pages, and from a cursor", async () => {
    const { dir } = await startControl({ lists });
    const all = ["outbox", "list", "--json", "--limit", "2400"];
    const outcome = await cli(all, { env: at(dir) });
    expect(parsed(outcome)).toEqual({ items: waiting.slice(0, 2400), next: "2400" });
    const rest = await cli([...all, "--cursor", "2400"], { env: at(dir) });
    expect(parsed(rest)).toEqual({ items: waiting.slice(2400), next: null });
  });

  test("an empty list says so on stderr, and is an empty list as JSON", async () => {
    const { dir } = await startControl();
    const words = await cli(["commands", "list"], { env: at(dir) });
    expect(words).toEqual({ status: 0, out: "", err: "No command has come yet.\n" });
    const json = await cli(["commands", "list", "--json"], { env: at(dir) });
    expect(json).toEqual({ status: 0, out: '{"items":[],"next":null}\n', err: "" });
  });

  test("outbox stats", async () => {
    const { dir } = await startControl();
    const words = await cli(["outbox", "stats"], { env: at(dir) });
    expect(words.out).toMatch(/^in flight +3$/m);
    expect(words.out).toMatch(/^telemetry +12 /m);
    const json = await cli(["outbox", "stats", "--json"], { env: at(dir) });
    expect(parsed(json)).toEqual(sampleStatus.outbox);
  });

  test("commands list and show, harmless for the terminal", async () => {
    const reply = { status: "failed", error: { message: "\u001b[2J\u009b" } };
    const detail = { ...journal[0], reply };
    const command = async (id: string) => (id === "c1" ? detail : undefined);
    const { dir } = await startControl({ lists, command });
    const list = await cli(["commands", "list"], { env: at(dir) });
    expect(list.out).toMatch(/^c1 +system\.ping +G@@@c +1970-01-01 00:00:00Z +succeeded$/m);
    expect(list.out).not.toContain("\u001b");
    const show = await cli(["commands", "show", "c1"], { env: at(dir) });
    expect(show.out).toMatch(/^command +system\.ping$/m);
    for (const evil of ["\u001b", "\u009b"]) expect(show.out).not.toContain(evil);
    const json = await cli(["commands", "show", "c1", "--json"], { env: at(dir) });
    expect(parsed(json)).toEqual(detail);
    const missing = await cli(["commands", "show", "nope"], { env: at(dir) });
    expect(missing.status).toBe(1);
    expect(missing.err).toContain("not_found");
  });
});

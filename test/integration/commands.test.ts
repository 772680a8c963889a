/** Commands over the real store: LevelDB in a temporary folder, opened again as after a crash. */
import { describe, expect, onTestFinished, test } from "vitest";
import { type CommandResult, Commands } from "../../agent/commands/commands.ts";
import { silentLog } from "../../agent/core/log.ts";
import type { IncomingMessage, OutgoingMessage } from "../../agent/core/message.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { DurableOutbox } from "../../agent/outbox/outbox.ts";
import { encodeCommand } from "../../agent/protocol/envelope.ts";
import { parseReply } from "../../agent/protocol/reply.ts";
import { DatabaseStore, openLevel } from "../../agent/store/store.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const lane = {
  priority: 1,
  maxMessages: 10_000,
  maxBytes: 32 * 1024 * 1024,
  ttlMs: 0,
  whenFull: "refuse",
  keep: "all",
  share: 1,
} as const;

function command(id: string): Uint8Array {
  const now = Date.now();
  return encodeCommand({
    id,
    to: device,
    from: "GID_demo@@@console",
    command: "system.ping",
    params: {},
    issuedAt: now,
    expiresAt: now + 600_000,
  });
}

async function agentOn(dir: string, answer: (id: string) => Promise<CommandResult>) {
  const clock = new SystemClock();
  const random = new SystemRandom();
  const log = silentLog;
  const storeDeps = { openDatabase: openLevel, random, log };
  const store = new DatabaseStore({ dir }, storeDeps);
  await store.start();
  // Nothing is settled here, so there is nothing to note about it.
  const none = (): void => undefined;
  const volatileLog = { read: () => new Uint8Array(), append: none, begin: none, commit: none };
  const outboxDeps = { store, volatileLog, clock, random, log };
  const outbox = new DurableOutbox(
    {
      lanes: { reply: lane },
      persistDelayMs: 0,
      settleEvery: 4_096,
      checkTopic: () => undefined,
      bootId: "boot",
    },
    outboxDeps,
  );
  await outbox.start();
  const begun: string[] = [];
  const sent: OutgoingMessage[] = [];
  const commands = new Commands(
    {
      clientId: device,
      profile: "lmq",
      up: "GW_UP",
      down: "GW_DOWN",
      topicMax: 128,
      allowUnsigned: ["system.*"],
      replyTo: [],
      replyRate: 10_000,
      maxQueued: 1_000,
      runId: outbox.epoch,
      bootId: "boot",
    },
    {
      store,
      outbox: {
        put: (message) => outbox.put(message),
        reserve: (...args) => outbox.reserve(...args),
        stage: (message, reservation) => {
          sent.push(message);
          return outbox.stage(message, reservation);
        },
      },
      clock,
      random,
      log,
      dispatcher: {
        dispatch: ({ id }) => {
          begun.push(id);
          return answer(id);
        },
      },
    },
  );
  await commands.start(new AbortController().signal);
  const accepted: Uint8Array[] = [];
  const take = (payloads: readonly Uint8Array[]): Promise<void> =>
    commands.consume(
      {
        async *messages(): AsyncIterable<IncomingMessage> {
          for (const payload of payloads) {
            const accept = (): void => void accepted.push(payload);
            yield { topic: `GW_DOWN/p2p/${device}`, payload, qos: 1, dup: false, accept };
          }
        },
      },
      new AbortController().signal,
    );
  const close = async (): Promise<void> => {
    await commands.stop(AbortSignal.abort());
    await outbox.stop(AbortSignal.timeout(10_000));
    await store.stop();
  };
  return { commands, begun, sent, accepted, take, close };
}

describe("commands on LevelDB", () => {
  test("200 end once each, are answered from the journal by the next run, and none runs again", async () => {
    const dir = await tempDir();
    const payloads = Array.from({ length: 200 }, (_, i) => command(`c${i}`));
    const first = await agentOn(dir, async (id) => ({ status: "succeeded", result: id }));
    await first.take(payloads);
    expect(first.accepted).toHaveLength(200);
    await waitFor(() => first.commands.stats().finished === 200, { what: "200 ends" });
    await first.close();

    const second = await agentOn(dir, async () => ({ status: "succeeded", result: "again" }));
    onTestFinished(() => second.close());
    await second.take(payloads);
    await waitFor(() => second.commands.stats().counts["repeated"] === 200);
    expect(second.begun).toEqual([]);
    expect((await second.commands.get("c7"))[0]?.reply).toBe(
      Buffer.from(
        first.sent.find(({ payload }) => replyId(payload) === "c7")?.payload ?? [],
      ).toString(),
    );
  });

  test("what ran when the process ended is interrupted in the next run, in pages of the list", async () => {
    const dir = await tempDir();
    const first = await agentOn(dir, () => new Promise(() => undefined));
    await first.take(Array.from({ length: 50 }, (_, i) => command(`c${i}`)));
    expect(first.commands.stats()).toMatchObject({ running: 1, queued: 49 });
    await first.close();

    const second = await agentOn(dir, () => new Promise(() => undefined));
    onTestFinished(() => second.close());
    expect(second.sent).toHaveLength(50);
    const page = await second.commands.list({ limit: 30 });
    const rest = await second.commands.list({ limit: 30, cursor: page.next ?? 0 });
    const all = [...page.items, ...rest.items];
    expect(all.map(({ status }) => status)).toEqual(Array(50).fill("interrupted"));
    expect(all.map(({ id }) => id)).toEqual(Array.from({ length: 50 }, (_, i) => `c${49 - i}`));
  });
});

function replyId(payload: Uint8Array): string {
  return parseReply(payload).id;
}

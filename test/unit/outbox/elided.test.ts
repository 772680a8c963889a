/**
 * What is written while the service acknowledges: nothing where it does so within the persist delay,
 * else the late ones and nothing beside them. With the clock of the test, so that no other load of
 * the machine makes acknowledgements late.
 */
import { expect, test } from "vitest";
import type { Write } from "../../../agent/store/store.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { startService } from "./quarantine-rig.ts";
import { never } from "./rig.ts";

const PAYLOAD = "x".repeat(256);

/** Counts what is written, by table. */
function countingStore() {
  const store = new MemoryStore();
  const commit = store.commit.bind(store);
  const bytes = { outbox: 0, ledger: 0, other: 0 };
  const count = (table: string, value: Uint8Array | undefined): void => {
    const cause = table === "outbox" || table === "ledger" ? table : "other";
    bytes[cause] += value?.length ?? 0;
  };
  store.commit = (writes, options) =>
    commit(
      writes.map((write): Write => {
        if (!("numbered" in write)) {
          count(write.table, write.value);
          return write;
        }
        const numbered: typeof write.numbered = (number) => {
          const made = write.numbered(number);
          count(write.table, made.value);
          return made;
        };
        return { ...write, numbered };
      }),
      options,
    );
  return { store, bytes };
}

async function online(ackMs: (text: string) => number) {
  const { store, bytes } = countingStore();
  const its = await startService({ window: 64, forbids: () => false, ackMs }, { store });
  const { put, clock, until } = its;
  const steadily = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) {
      void put(`${n} ${PAYLOAD}`);
      await clock.advance(1);
    }
    await until(() => its.rest() === 0);
    await clock.sleep(0, never);
  };
  await clock.advance(100);
  await steadily(100); // From here on it is known how long acknowledgements take.
  const before = its.outbox.stats();
  const sinceThen = () => {
    const { persisted, elided } = its.outbox.stats();
    return { persisted: persisted - before.persisted, elided: elided - before.elided };
  };
  return { ...its, bytes, steadily, sinceThen };
}

test("C: 3,000 messages at 1,000 a second, acknowledged within the persist delay: nothing is written", async () => {
  const { steadily, sinceThen, bytes, store } = await online(() => 3);
  await steadily(3_000);
  expect(sinceThen()).toEqual({ persisted: 0, elided: 3_000 });
  expect(bytes).toEqual({ outbox: 0, ledger: 0, other: 0 });
  expect(store.commits).toBe(0);
});

test("C: where one in ten comes late, that one is written and nothing beside it", async () => {
  const late = (text: string): boolean => Number.parseInt(text, 10) % 10 === 0;
  const { steadily, sinceThen, bytes, clock } = await online((text) => (late(text) ? 30 : 3));
  const already = { ...bytes };
  await steadily(3_000);
  await clock.advance(2_000);
  const wrote = { outbox: bytes.outbox - already.outbox, ledger: bytes.ledger - already.ledger };
  process.stdout.write(
    `300 of 3,000 late: ${wrote.outbox} B of records, ${wrote.ledger} B of ledger, ` +
      `${bytes.other} B else; ${((wrote.outbox + wrote.ledger) / 3_000).toFixed(1)} B a message\n`,
  );
  expect(sinceThen()).toEqual({ persisted: 300, elided: 2_700 });
  // Each late one is a record of its own: its payload, topic and head.
  expect(wrote.outbox).toBeLessThanOrEqual(300 * (PAYLOAD.length + 160));
  // A block of 1,024 numbers once a second.
  expect(wrote.ledger).toBeLessThanOrEqual(5 * 256);
  expect(bytes.other).toBe(0);
});

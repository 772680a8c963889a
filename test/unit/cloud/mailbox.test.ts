import { describe, expect, it } from "vitest";
import { Mailbox } from "../../../cloud/storage/mailbox.ts";
import { startCloud } from "../../support/cloud.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const toDevice = `GW_DOWN/p2p/${device}`;

function filled(count: number): Mailbox {
  const mailbox = new Mailbox();
  for (let seq = 1; seq <= count; seq++) mailbox.add(seq, seq % 3 === 0);
  return mailbox;
}

describe("what was taken and not pushed", () => {
  it("waits again in its place, whichever it was", () => {
    const mailbox = filled(200);
    const taken = mailbox.take(150, 0).map(({ seq }) => seq);
    for (const seq of [...taken].reverse()) mailbox.release(seq, 0, 0);
    mailbox.add(201, false);
    mailbox.claim(201);
    mailbox.release(201, 0, 0);
    expect(mailbox.size).toBe(201);
    expect(mailbox.take(1_000, 0)).toEqual(
      Array.from({ length: 201 }, (_, i) => ({ seq: i + 1, pushes: 0 })),
    );
  });

  it("is not put back when it is gone", () => {
    const mailbox = filled(1);
    mailbox.take(1, 0);
    mailbox.remove(1);
    mailbox.release(1, 0, 0);
    expect(mailbox.size).toBe(0);
  });
});

it("what an old connection still reads from the disk goes to the new one", async () => {
  const store = new MemoryStore();
  const timings = { ackTimeoutMs: 50, offlineIntervalMs: 20 };
  const { mqttPort } = await startCloud({ timings }, { store });
  const sender = await RawClient.connect(mqttPort, {
    clientId: "GID_demo@@@console",
    clean: false,
  });
  await sender.publishAcked(toDevice, "command");
  const reads: (() => void)[] = [];
  store.afterRead = () => new Promise((resolve) => reads.push(resolve));
  const old = await RawClient.connect(mqttPort, { clientId: device });
  await waitFor(() => reads.length === 1, { what: "the read of the first batch" });
  const target = await RawClient.connect(mqttPort, { clientId: device });
  store.afterRead = () => Promise.resolve();
  for (const resolve of reads) resolve();
  await target.untilMessages(1);
  expect(target.payloads).toEqual(["command"]);
  expect(old.payloads).toEqual([]);
});

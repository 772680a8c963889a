/** P2P between MQTT clients, lmq-protocol 5. What waits for an offline target is in delivery.test.ts. */
import { describe, expect, it } from "vitest";
import { startCloud } from "../../support/cloud.ts";
import { RawClient } from "../../support/raw-client.ts";

const device = "GID_demo@@@gw-01";
const console_ = "GID_demo@@@console";

async function pair() {
  const { mqttPort } = await startCloud();
  const target = await RawClient.connect(mqttPort, { clientId: device });
  const sender = await RawClient.connect(mqttPort, { clientId: console_ });
  return { target, sender };
}

describe("a P2P message", () => {
  it.each([0, 1, 2] as const)("published with QoS %i is delivered with it", async (qos) => {
    const { target, sender } = await pair();
    sender.publish(`GW_DOWN/p2p/${device}`, "x", { qos, ...(qos === 0 && { messageId: 0 }) });
    const [message] = await target.untilMessages(1);
    expect(message).toMatchObject({ qos, dup: false, retain: false });
  });

  it("may come under every parent topic, and shows the one it was sent under", async () => {
    const { target, sender } = await pair();
    await sender.publishAcked(`GW_DOWN/p2p/${device}`, "down", 1);
    await sender.publishAcked(`GW_UP/p2p/${device}`, "up", 2);
    const messages = await target.untilMessages(2);
    expect(messages.map(({ topic, payload }) => [topic, payload.toString()])).toEqual([
      [`GW_DOWN/p2p/${device}`, "down"],
      [`GW_UP/p2p/${device}`, "up"],
    ]);
  });

  it("to oneself comes back", async () => {
    const { sender } = await pair();
    await sender.publishAcked(`GW_DOWN/p2p/${console_}`, "mine");
    await sender.untilMessages(1);
    expect(sender.payloads).toEqual(["mine"]);
  });

  it("to an offline, a strange or an impossible target is acknowledged all the same", async () => {
    const { sender } = await pair();
    for (const [i, target] of ["GID_demo@@@away", "GID_else@@@x", "nobody"].entries()) {
      await sender.publishAcked(`GW_DOWN/p2p/${target}`, "x", i + 1);
    }
    await sender.ping();
    expect(sender.closed).toBe(false);
  });

  it.each([
    ["another second level", `GW_DOWN/P2P/${device}`],
    ["a level behind the target", `GW_DOWN/p2p/${device}/x`],
    ["no target", "GW_DOWN/p2p"],
  ])("is none with %s", async (_, topic) => {
    const { target, sender } = await pair();
    await sender.publishAcked(topic, "x", 1);
    await sender.publishAcked(`GW_DOWN/p2p/${device}`, "after it", 2);
    await target.untilMessages(1);
    expect(target.payloads).toEqual(["after it"]);
  });
});

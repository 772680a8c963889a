import type { Duplex } from "node:stream";
import { expect, it } from "vitest";
import WebSocket, { createWebSocketStream } from "ws";
import type { CloudAddresses } from "../../../cloud/cloud.ts";
import { startCloud } from "../../support/cloud.ts";
import { fuzz, fuzzLimits, fuzzTimings, overTcp } from "../../support/cloud-fuzz.ts";
import { heldMemory } from "../../support/held-memory.ts";

/** The full number is `npm run campaign -- cloud-fuzz`. */
it.each([
  ["over TCP", 5_000, ({ mqtt }: CloudAddresses) => overTcp(mqtt?.port ?? 0)],
  ["over WebSocket", 1_000, ({ ws }: CloudAddresses) => overWebSocket(ws?.port ?? 0)],
])(
  "damaged packets %s, %i of them: no crash, no leak, and who behaves is served",
  async (_, wanted, connectTo) => {
    const seed = 1;
    const listen = { host: "127.0.0.1", mqtt: { port: 0 }, ws: { port: 0 } };
    const { cloud } = await startCloud({ listen, timings: fuzzTimings, limits: fuzzLimits });
    const connect = connectTo(cloud.ready ?? {});
    const target = { connect, stats: () => cloud.stats, usedBytes: heldMemory };
    const report = await fuzz(target, { seed, packets: wanted });
    const { packets, connections, answers, served, grownBytes } = report;
    process.stdout.write(
      `seed ${seed}: ${packets} damaged packets, ${connections} connections, ${answers} answers, ` +
        `${served} messages served, ${grownBytes} bytes more\n`,
    );
    expect(report.faults).toEqual([]);
    expect(packets).toBeGreaterThanOrEqual(wanted);
    expect(answers).toBeGreaterThan(connections / 2);
    // What is kept for the MQ side stays in the store, which is in memory here: about 1.5 MB.
    expect(grownBytes).toBeLessThan(4_000_000);
  },
);

function overWebSocket(port: number): () => Duplex {
  return () => createWebSocketStream(new WebSocket(`ws://127.0.0.1:${port}/mqtt`, "mqtt"));
}

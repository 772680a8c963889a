/**
 * The callers of those contenders that are reached over a socket, as a process of their own:
 * `feeder.ts mqtt PORT` keeps so many messages unacknowledged on one connection,
 * `feeder.ts http SOCKET` sends batches over so many connections that as many messages wait.
 */
import { once } from "node:events";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { encodePublish, writePacketId } from "../../agent/core/publish-packet.ts";
import { answerQuestions } from "./ipc.ts";
import { type PayloadKind, Payloads } from "./payloads.ts";

interface Order {
  readonly count: number;
  readonly callers: number;
  readonly payloads: PayloadKind;
}

const [kind = "", where = ""] = process.argv.slice(2);
const TOPIC = "t";
const PACKET_IDS = 65_535;
const LINES = 128;

/** PUBLISH packets with QoS 1; each PUBACK lets the next one go. Gives milliseconds. */
async function feedMqtt({ count, callers, payloads }: Order): Promise<number> {
  const source = new Payloads(payloads);
  const socket = connect({ port: Number(where), host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  socket.write(Buffer.from("\x10\x10\x00\x04MQTT\x04\x02\x00\x5a\x00\x04feed", "latin1"));
  await once(socket, "data"); // CONNACK
  let sent = 0;
  let acked = 0;
  let rest = 0;
  const send = (): void => {
    const packets: Uint8Array[] = [];
    while (sent < count && sent - acked < callers) {
      const { bytes, packetIdAt } = encodePublish(`GW_UP/${TOPIC}`, source.make(sent));
      writePacketId(bytes, packetIdAt, (sent % PACKET_IDS) + 1);
      packets.push(bytes);
      sent++;
    }
    if (packets.length > 0) socket.write(Buffer.concat(packets));
  };
  const start = performance.now();
  const done = new Promise<number>((resolve) => {
    socket.on("data", (chunk: Buffer) => {
      rest += chunk.length; // Only PUBACKs of four bytes come.
      acked += rest >> 2;
      rest &= 3;
      if (acked >= count) resolve(performance.now() - start);
      else send();
    });
  });
  send();
  const ms = await done;
  socket.destroy();
  return ms;
}

async function feedHttp({ count, callers, payloads }: Order): Promise<number> {
  const source = new Payloads(payloads);
  const connections = Math.max(1, Math.floor(callers / LINES));
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  let next = 0;
  const start = performance.now();
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (next < count) {
        const lines: string[] = [];
        while (lines.length < LINES && next < count) {
          const payloadBase64 = Buffer.from(source.make(next++)).toString("base64");
          lines.push(`{"topic":"${TOPIC}","payloadBase64":"${payloadBase64}"}`);
        }
        const answer = await post(agent, lines.join("\n"));
        if (answer.accepted !== lines.length) throw new Error("A line was not accepted.");
      }
    }),
  );
  const ms = performance.now() - start;
  agent.destroy();
  return ms;
}

function post(agent: Agent, body: string): Promise<{ accepted: number }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { agent, socketPath: where, method: "POST", path: "/v1/messages:batch" },
      (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("end", () => resolve(JSON.parse(Buffer.concat(parts).toString())));
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

answerQuestions({ feed: (order: Order) => (kind === "mqtt" ? feedMqtt(order) : feedHttp(order)) });

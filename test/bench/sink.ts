/**
 * The other end for every contender: an MQTT 3.1.1 server that only counts. It reads frames by
 * hand, acknowledges what a read brought in one write, and checks the payloads' counters for gaps,
 * repetitions and order. A process of its own: `sink.ts`, asked over IPC.
 */
import { createServer, type Server, type Socket } from "node:net";
import { answerQuestions } from "./ipc.ts";
import { counterAt } from "./payloads.ts";

export interface SinkReport {
  readonly seen: number;
  readonly duplicates: number;
  /** First deliveries that came after one with a higher counter. */
  readonly outOfOrder: number;
  /** From the first PUBLISH to the last one that was new. */
  readonly ms: number;
}

/** Who has sent nothing for this long will not. */
const CONNECT_MS = 60_000;

let seenAlready = new Uint8Array(0);
let seen = 0;
let duplicates = 0;
let outOfOrder = 0;
let highest = -1;
let firstNs = 0n;
let lastNs = 0n;
let target = 0;
let reached: (() => void) | undefined;
let server: Server | undefined;
const sockets = new Set<Socket>();

function count(counter: number | undefined): void {
  if (counter === undefined || counter >= seenAlready.length) return;
  if (seenAlready[counter] === 1) {
    duplicates++;
    return;
  }
  seenAlready[counter] = 1;
  seen++;
  if (counter < highest) outOfOrder++;
  else highest = counter;
}

function serve(socket: Socket): void {
  let carry: Buffer | undefined;
  sockets.add(socket);
  socket.setNoDelay(true);
  socket.on("error", () => undefined);
  socket.on("close", () => sockets.delete(socket));
  socket.on("data", (chunk: Buffer) => {
    const data = carry ? Buffer.concat([carry, chunk]) : chunk;
    const before = seen;
    if (firstNs === 0n && (data[0] as number) >> 4 === 3) firstNs = process.hrtime.bigint();
    const used = readFrames(data, socket);
    carry = used < data.length ? data.subarray(used) : undefined;
    if (seen === before) return;
    lastNs = process.hrtime.bigint();
    if (seen >= target) reached?.();
  });
}

/** How many bytes were whole frames. */
function readFrames(data: Buffer, socket: Socket): number {
  let at = 0;
  // At least two bytes a frame, and an answer of four at most for each five that came.
  const out = Buffer.allocUnsafe(data.length + 16);
  let filled = 0;
  while (at + 2 <= data.length) {
    let length = 0;
    let body = at + 1;
    for (let shift = 0; ; shift += 7) {
      if (body >= data.length) return done();
      const byte = data[body++] as number;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    const end = body + length;
    if (end > data.length) break;
    const first = data[at] as number;
    switch (first >> 4) {
      case 3: {
        const topicBytes = ((data[body] as number) << 8) | (data[body + 1] as number);
        const idAt = body + 2 + topicBytes;
        if ((first & 0x06) === 0) count(counterAt(data, idAt));
        else {
          count(counterAt(data, idAt + 2));
          out[filled++] = 0x40;
          out[filled++] = 2;
          out[filled++] = data[idAt] as number;
          out[filled++] = data[idAt + 1] as number;
        }
        break;
      }
      case 1:
        filled += out.write("\x20\x02\x00\x00", filled, "latin1");
        break;
      case 8:
        out.set([0x90, 3, data[body] as number, data[body + 1] as number, 1], filled);
        filled += 5;
        break;
      case 12:
        filled += out.write("\xd0\x00", filled, "latin1");
        break;
      case 14:
        socket.end();
        break;
      default:
    }
    at = end;
  }
  return done();

  function done(): number {
    if (filled > 0) socket.write(out.subarray(0, filled));
    return at;
  }
}

function report(): SinkReport {
  return { seen, duplicates, outOfOrder, ms: Number(lastNs - firstNs) / 1e6 };
}

answerQuestions({
  /** Counts anew, for payloads 0 to below `total`. */
  reset: ({ total }: { total: number }) => {
    seenAlready = new Uint8Array(total);
    seen = duplicates = outOfOrder = 0;
    highest = -1;
    firstNs = lastNs = 0n;
  },
  listen: async ({ port }: { port: number }) => {
    const opened = createServer(serve);
    server = opened;
    await new Promise<void>((resolve, reject) => {
      opened.once("error", reject);
      opened.listen(port, "127.0.0.1", resolve);
    });
    const address = opened.address();
    return address && typeof address === "object" ? address.port : 0;
  },
  /** Nobody can connect, and who was connected is not any more. */
  close: async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  },
  /** Resolves when so many have come, or when nothing new came for `quietMs`. */
  wait: async ({ messages, quietMs }: { messages: number; quietMs: number }) => {
    target = messages;
    if (seen < target) {
      await new Promise<void>((resolve) => {
        let last = -1;
        let silentMs = 0;
        const timer = setInterval(() => {
          // Before the first message nobody is lost: a contender may be slow to connect again.
          silentMs = seen === last ? silentMs + quietMs : 0;
          if (silentMs > 0 && (seen > 0 || silentMs >= CONNECT_MS)) finish();
          last = seen;
        }, quietMs);
        const finish = (): void => {
          clearInterval(timer);
          resolve();
        };
        reached = finish;
      });
      reached = undefined;
    }
    return report();
  },
  report,
});

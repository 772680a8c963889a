import fc from "fast-check";
import { generate, type Packet, parser } from "mqtt-packet";
import { describe, expect, test } from "vitest";
import { FrameScanner, type PublishMark, type Scanned } from "../../../agent/connection/frames.ts";

const connack: Packet = { cmd: "connack", returnCode: 0, sessionPresent: false };

function publish(messageId: number, qos: 0 | 1 | 2, bytes: number): Packet {
  const payload = Buffer.alloc(bytes, messageId);
  const packet = {
    cmd: "publish",
    topic: "down/ü",
    payload,
    qos,
    dup: false,
    retain: false,
  } as const;
  return qos === 0 ? packet : { ...packet, messageId };
}

/** Everything that came out of the pieces, and the packets that mqtt.js would see. */
function scanAll(pieces: readonly Buffer[], maxPayloadBytes = 1_000) {
  const scanner = new FrameScanner({ maxPayloadBytes });
  const all: Scanned = { pass: [], pubacks: [], pubrels: [], marks: [] };
  let error: string | undefined;
  let disconnect: number | undefined;
  for (const piece of pieces) {
    if (error !== undefined) break;
    const scanned = scanner.scan(Buffer.from(piece));
    all.pass.push(...scanned.pass);
    all.pubacks.push(...scanned.pubacks);
    all.pubrels.push(...scanned.pubrels);
    all.marks.push(...scanned.marks);
    error ??= scanned.error;
    disconnect ??= scanned.disconnect;
  }
  const seen: Packet[] = [];
  const packets = parser().on("packet", (packet) => seen.push(packet));
  for (const part of all.pass) packets.parse(part);
  return { ...all, error, disconnect, seen };
}

function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [...new Set(at.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, i) => bytes.subarray(from, places[i] ?? bytes.length));
}

const anyPacket: fc.Arbitrary<Packet> = fc.oneof(
  fc
    .tuple(fc.integer({ min: 1, max: 65_535 }), fc.constantFrom(0, 1, 2), fc.nat(3_000))
    .map(([id, qos, bytes]) => publish(id, qos as 0 | 1 | 2, bytes)),
  fc
    .tuple(fc.integer({ min: 1, max: 65_535 }), fc.constantFrom("puback", "pubrel", "pubrec"))
    .map(([messageId, cmd]): Packet => ({ cmd, messageId })),
  fc.constant<Packet>({ cmd: "pingresp" }),
  fc
    .integer({ min: 1, max: 65_535 })
    .map((messageId): Packet => ({ cmd: "suback", messageId, granted: [1] })),
);

describe("the frame scanner", () => {
  test("gives everyone their part of any stream, however it is cut", () => {
    fc.assert(
      fc.property(
        fc.array(anyPacket, { maxLength: 30 }),
        fc.array(fc.nat(200_000), { maxLength: 60 }),
        (packets, cuts) => {
          const stream = Buffer.concat([connack, ...packets].map((packet) => generate(packet)));
          const { seen, pubacks, pubrels, marks, error } = scanAll(cut(stream, cuts));
          expect(error).toBeUndefined();
          const of = (cmd: string) => packets.filter((packet) => packet.cmd === cmd);
          const ids = (cmd: string) => of(cmd).map(({ messageId }) => messageId ?? 0);
          expect(pubacks).toEqual(ids("puback").filter((id) => id <= 60_000));
          expect(pubrels).toEqual(ids("pubrel"));
          const rest = packets.filter(
            ({ cmd, messageId = 0 }) =>
              !["pubrel", "pingresp"].includes(cmd) && (cmd !== "puback" || messageId > 60_000),
          );
          expect(seen.map(({ cmd, messageId }) => [cmd, messageId])).toEqual([
            ["connack", undefined],
            ...rest.map(({ cmd, messageId }) => [cmd, messageId]),
          ]);
          let ordinal = 0;
          const expected = of("publish").flatMap((packet): PublishMark[] => {
            ordinal++;
            if (packet.cmd !== "publish") return [];
            const size = packet.payload.length;
            const qos2 = packet.qos === 2;
            if (size > 1_000) return [{ ordinal, qos2, oversizeBytes: size }];
            return qos2 ? [{ ordinal, qos2 }] : [];
          });
          expect(marks).toEqual(expected);
          for (const [i, shown] of seen.filter(({ cmd }) => cmd === "publish").entries()) {
            const sent = of("publish")[i];
            if (shown.cmd !== "publish" || sent?.cmd !== "publish") throw new Error("not PUBLISH");
            expect(shown.topic).toBe("down/ü");
            expect(shown.qos).toBe(Math.min(sent.qos, 1));
            const expectedBytes = sent.payload.length > 1_000 ? 0 : sent.payload.length;
            expect(shown.payload.length).toBe(expectedBytes);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test("names what breaks the protocol", () => {
    const hello = generate(connack);
    const errorOf = (...bytes: number[]) => scanAll([Buffer.from([...hello, ...bytes])]).error;
    expect(scanAll([Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")]).error).toMatch(/CONNACK/);
    expect(errorOf(0x41, 2, 0, 1)).toMatch(/flags/);
    expect(errorOf(0x60, 2, 0, 1)).toMatch(/flags/);
    expect(errorOf(0x36, 5)).toMatch(/QoS 3/);
    expect(errorOf(0x30, 0xff, 0xff, 0xff, 0xff)).toMatch(/four bytes/);
    expect(errorOf(0x40, 3, 0, 1, 0)).toMatch(/length/);
    expect(errorOf(0x40, 2, 0, 0)).toMatch(/packet id/);
    expect(errorOf(0x62, 2, 0, 0)).toMatch(/packet id/);
    expect(errorOf(0xd0, 1, 0)).toMatch(/PINGRESP/);
    expect(errorOf(0x10, 0)).toMatch(/type 1/);
    expect(errorOf(0x80, 0)).toMatch(/type 8/);
    expect(errorOf(0x90, 0xff, 0xff, 0x7f)).toMatch(/too long/);
    expect(errorOf(0x30, 0xe9, 0x07, 0xff, 0xff)).toMatch(/topic/);
    expect(errorOf(0x30, 2, 0, 0)).toBeUndefined();
  });

  test("reads the reason of a DISCONNECT, and 0 where there is none", () => {
    const hello = generate(connack);
    expect(scanAll([Buffer.from([...hello, 0xe0, 0])]).disconnect).toBe(0);
    expect(scanAll([Buffer.from([...hello, 0xe0, 1]), Buffer.from([0x8e])]).disconnect).toBe(0x8e);
  });

  test("keeps no part of an oversized payload", () => {
    const scanner = new FrameScanner({ maxPayloadBytes: 100 });
    scanner.scan(generate(connack));
    const big = generate(publish(1, 1, 10_000_000));
    let passed = 0;
    for (let at = 0; at < big.length; at += 65_536) {
      for (const part of scanner.scan(big.subarray(at, at + 65_536)).pass) passed += part.length;
    }
    expect(passed).toBeLessThan(20);
    expect(scanner.scan(generate({ cmd: "puback", messageId: 5 })).pubacks).toEqual([5]);
  });

  test("random bytes never throw", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 8 }), (pieces) => {
        const scanner = new FrameScanner({ maxPayloadBytes: 10 });
        scanner.scan(generate(connack));
        for (const piece of pieces) if (scanner.scan(Buffer.from(piece)).error) return;
      }),
    );
  });
});

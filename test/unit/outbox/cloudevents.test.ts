import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cloudEventSource, encodeCloudEvent } from "../../../agent/outbox/cloudevents.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { codeOf, lane, startRig, texts } from "./rig.ts";

const base = {
  id: "01KDVDNA00M008FYZQ8YEBGVFY-7",
  source: "/GID_demo@@@gw-01",
  type: "holdfast.telemetry",
  subject: "GW_UP/t",
  timeMs: Date.UTC(2026, 0, 2, 3, 4, 5, 6),
};
const encode = (payload: Uint8Array, more = {}): string =>
  Buffer.from(encodeCloudEvent({ ...base, payload, ...more })).toString();
const decode = (payload: Uint8Array, more = {}) => JSON.parse(encode(payload, more));

describe("a CloudEvent", () => {
  test("has the attributes of surface 4 and JSON data as it is", () => {
    expect(decode(Buffer.from('{"t":21.5}'))).toEqual({
      specversion: "1.0",
      ...{ id: base.id, source: base.source, type: base.type, subject: base.subject },
      time: "2026-01-02T03:04:05.006Z",
      datacontenttype: "application/json",
      data: { t: 21.5 },
    });
  });

  test("has no time while the clock is not trusted, and no data for an empty payload", () => {
    const event = decode(Buffer.alloc(0), { timeMs: undefined });
    expect(Object.keys(event).sort()).toEqual(["id", "source", "specversion", "subject", "type"]);
  });

  test("keeps numbers and members of JSON byte for byte", () => {
    const exact = '{"big":12345678901234567890,"twice":1,"twice":2,"e":1.0E+2}';
    expect(encode(Buffer.from(exact))).toContain(`"data":${exact}`);
  });

  test.each([
    ["text", "21.5 °C", "text/plain"],
    ["a byte order mark", "\ufeff{}", "text/plain"],
  ])("gives %s as a string", (_, text, type) => {
    expect(decode(Buffer.from(text))).toMatchObject({ data: text, datacontenttype: type });
  });

  test("any payload comes back as its bytes", () => {
    const json = fc.json().map((text) => new Uint8Array(Buffer.from(text)));
    const text = fc.string({ unit: "binary" }).map((some) => new Uint8Array(Buffer.from(some)));
    fc.assert(
      fc.property(fc.oneof(json, text, fc.uint8Array()), (payload) => {
        const whole = encode(payload);
        const event = JSON.parse(whole);
        if (event.data_base64 !== undefined) {
          expect(Buffer.from(event.data_base64, "base64")).toEqual(Buffer.from(payload));
        } else if (event.datacontenttype === "text/plain") {
          expect(Buffer.from(event.data)).toEqual(Buffer.from(payload));
        } else if (payload.length > 0) {
          expect(whole.endsWith(`"data":${Buffer.from(payload).toString()}}`)).toBe(true);
        } else expect(event.data).toBeUndefined();
      }),
    );
  });

  test("its source is a URI reference for any client id", () => {
    expect(cloudEventSource("GID_demo@@@gw-01")).toBe("/GID_demo@@@gw-01");
    expect(cloudEventSource("a b/c?d#e")).toBe("/a%20b%2Fc%3Fd%23e");
  });
});

describe("a lane with CloudEvents", () => {
  const lanes = { telemetry: lane({ payload: "cloudevents" }), raw: lane() };

  test("wraps with the id of the message, the same after a restart; others stay raw", async () => {
    const clock = new FakeClock({ trusted: false });
    const rig = await startRig({ lanes, clientId: "GID_demo@@@gw-01", clock });
    const { id } = await rig.put('{"a":1}');
    await rig.put("plain", { lane: "raw" });
    const again = await startRig({ lanes, store: rig.store.afterPowerCut(), seed: 2 });
    const [event = "", raw] = await again.drain();
    expect(JSON.parse(event)).toMatchObject({
      ...{ id, source: "/GID_demo@@@gw-01", type: "holdfast.telemetry", subject: "up/t" },
      data: { a: 1 },
    });
    expect(JSON.parse(event)).not.toHaveProperty("time");
    expect(raw).toBe("plain");
  });

  test("each message has its own id, also beside staged ones", async () => {
    const rig = await startRig({ lanes, clientId: "gw" });
    const first = rig.put("1");
    const staged = rig.outbox.stage({
      ...{ topic: "up/t", lane: "telemetry", payload: Buffer.from("2") },
    });
    const third = rig.put("3");
    await rig.store.commit(staged.writes, { sync: true });
    staged.committed();
    const ids = [(await first).id, (await third).id, staged.id];
    const events = texts(await rig.take()).map((text) => JSON.parse(text));
    expect(events.map(({ id, data }) => [id, data])).toEqual([
      [ids[0], 1],
      [ids[1], 3],
      [ids[2], 2],
    ]);
  });

  test("what is too large with its envelope is refused at put", async () => {
    const { put } = await startRig({ lanes, clientId: "gw" });
    expect(await codeOf(put("x".repeat(65_000)))).toBe("accepted");
    expect(await codeOf(put("x".repeat(65_500)))).toBe("payload_too_large");
  });
});

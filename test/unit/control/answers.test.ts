import { describe, expect, test } from "vitest";
import { type PageRequest, pageOf } from "../../../agent/control/control.ts";
import { sampleStatus, startControl } from "./fixture.ts";

describe("what is asked", () => {
  test("status is the report", async () => {
    const { ask } = await startControl();
    const reply = await ask("GET", "/v1/status");
    expect([reply.status, reply.json]).toEqual([200, sampleStatus]);
  });

  test("healthz is 200, or 503 with the reasons, on both sockets", async () => {
    let ok = true;
    const { ask } = await startControl({
      health: () => ({ ok, reasons: ok ? [] : ["The disk is full."] }),
    });
    expect((await ask("GET", "/healthz", { socket: "producer.sock" })).json).toEqual({
      status: "ok",
      reasons: [],
    });
    ok = false;
    const sick = await ask("GET", "/healthz");
    expect([sick.status, sick.json]).toEqual([
      503,
      { status: "unhealthy", reasons: ["The disk is full."] },
    ]);
  });

  test("metrics are OpenMetrics text with the families of the report and the parts'", async () => {
    const { ask } = await startControl({
      metrics: () => [
        {
          name: "holdfast_extra",
          type: "counter",
          help: 'A "quoted" \\ help.',
          samples: [{ labels: { odd: 'a"b\\c\nd' }, value: 1 }],
        },
      ],
    });
    const reply = await ask("GET", "/metrics");
    expect(reply.headers["content-type"]).toMatch(/^application\/openmetrics-text; version=1/);
    const lines = reply.text.split("\n");
    expect(lines.slice(-2)).toEqual(["# EOF", ""]);
    expect(lines).toContain('holdfast_info{version="1.2.3",client_id="GID_demo@@@gw-01"} 1');
    expect(lines).toContain('holdfast_outbox_messages{lane="telemetry"} 12');
    expect(lines).toContain('holdfast_outbox_oldest_age_seconds{lane="telemetry"} 5');
    expect(lines).toContain('holdfast_outbox_dropped_total{lane="telemetry",reason="full"} 2');
    expect(lines).toContain('holdfast_connection_state{holdfast_connection_state="online"} 1');
    expect(lines).toContain('holdfast_connection_state{holdfast_connection_state="refused"} 0');
    expect(lines).toContain('holdfast_extra_total{odd="a\\"b\\\\c\\nd"} 1');
    expect(lines).toContain('# HELP holdfast_extra A \\"quoted\\" \\\\ help.');
    // Every sample is preceded by the type of its family, and no family comes twice.
    const families = lines.filter((line) => line.startsWith("# TYPE")).map((l) => l.split(" ")[2]);
    expect(new Set(families).size).toBe(families.length);
    for (const line of lines.filter((each) => each !== "" && !each.startsWith("#"))) {
      expect(line).toMatch(/^holdfast[a-z_]*(\{.*\})? -?[0-9.e+]+$/);
    }
  });
});

describe("lists", () => {
  const items = Array.from({ length: 25 }, (_, at) => ({ id: `m${at}` }));

  test("page by page until next is null", async () => {
    const { ask } = await startControl({
      lists: { outbox: (page: PageRequest) => pageOf(items, page) },
    });
    const seen: unknown[] = [];
    let cursor: string | null = "";
    for (let pages = 0; cursor !== null && pages < 10; pages++) {
      const query: string = cursor === "" ? "" : `&cursor=${cursor}`;
      const { json } = await ask("GET", `/v1/outbox?limit=10${query}`);
      seen.push(...json.items);
      cursor = json.next;
    }
    expect(seen).toEqual(items);
  });

  test.each(["outbox", "quarantine", "commands", "plugins", "jobs"])(
    "%s that is not built is empty",
    async (name) => {
      const { ask } = await startControl();
      const reply = await ask("GET", `/v1/${name}`);
      expect([reply.status, reply.json]).toEqual([200, { items: [], next: null }]);
    },
  );

  test.each(["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "page=2"])(
    "?%s is 400",
    async (query) => {
      const { ask } = await startControl();
      const reply = await ask("GET", `/v1/outbox?${query}`);
      expect([reply.status, reply.json.error.code]).toEqual([400, "request_invalid"]);
    },
  );

  test("one command by its id, or 404", async () => {
    const { ask } = await startControl({
      command: async (id) => (id === "a:b" ? { id, status: "succeeded" } : undefined),
    });
    expect((await ask("GET", "/v1/commands/a%3Ab")).json).toEqual({
      id: "a:b",
      status: "succeeded",
    });
    const missing = await ask("GET", "/v1/commands/other");
    expect([missing.status, missing.json.error.code]).toEqual([404, "not_found"]);
  });
});

describe("the wrong address", () => {
  test.each([
    ["GET", "/", 404],
    ["GET", "/v1/nothing", 404],
    ["GET", "/v1/commands/a/b", 404],
    ["POST", "/v1/status", 405],
    ["DELETE", "/v1/outbox", 405],
    ["GET", "/v1/messages", 405],
  ])("%s %s is %i", async (method, path, status) => {
    const { ask } = await startControl();
    expect((await ask(method, path)).status).toBe(status);
  });

  test("405 names what is allowed", async () => {
    const { ask } = await startControl();
    expect((await ask("GET", "/v1/messages:batch")).headers.allow).toBe("POST");
  });

  test.each(["/v1/status", "/metrics", "/v1/outbox", "/v1/commands/x", "/v1/plugins"])(
    "the producers' socket does not give %s",
    async (path) => {
      const { ask } = await startControl();
      const reply = await ask("GET", path, { socket: "producer.sock" });
      expect([reply.status, reply.json.error.code]).toEqual([403, "forbidden"]);
    },
  );
});

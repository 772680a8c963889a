/** `holdfast quarantine` against a control part with a quarantine of the test's. */
import { describe, expect, test } from "vitest";
import { pageOf } from "../../../agent/control/control.ts";
import { epoch, startControl } from "../control/fixture.ts";
import { cli } from "./fixture.ts";

const at = (dir: string) => ({ HOLDFAST_CONTROL__DIR: dir });

async function startQuarantine() {
  const parked = new Map(
    [1, 2, 3].map((n) => [
      `${epoch}-${n}`,
      {
        ...{ id: `${epoch}-${n}`, lane: "telemetry", topic: "GW_OTHER/t", bytes: n },
        ...{ at: 1_767_225_600_000, parkedAt: 1_767_225_660_000, scope: "topic", tries: 0 },
      },
    ]),
  );
  const asked: (string | undefined)[] = [];
  const count = (id?: string): number => (id === undefined ? parked.size : Number(parked.has(id)));
  const control = await startControl({
    lists: { quarantine: (page) => pageOf([...parked.values()], page) },
    quarantine: {
      retry: (id) => {
        asked.push(id);
        return count(id);
      },
      drop: async (id) => {
        const dropped = count(id);
        if (id === undefined) parked.clear();
        else parked.delete(id);
        return dropped;
      },
    },
  });
  return { ...control, parked, asked };
}

describe("list", () => {
  test("says what, where and why", async () => {
    const { dir } = await startQuarantine();
    const { status, out } = await cli(["quarantine", "list"], { env: at(dir) });
    expect(status).toBe(0);
    const [head, first] = out.split("\n");
    expect(head).toMatch(/^id +lane +bytes +set aside +scope +tries +topic$/);
    expect(first).toMatch(/-1 +telemetry +1 +2026-01-01 00:01:00Z +topic +0 +GW_OTHER\/t$/);
  });

  test("nothing there is no error", async () => {
    const { dir } = await startControl();
    expect(await cli(["quarantine", "list"], { env: at(dir) })).toEqual({
      ...{ status: 0, out: "", err: "Nothing is in quarantine.\n" },
    });
  });
});

test("retry takes ids, or --all", async () => {
  const { dir, asked } = await startQuarantine();
  const one = await cli(["quarantine", "retry", `${epoch}-2`], { env: at(dir) });
  expect([one.status, one.out]).toEqual([0, "1 retried\n"]);
  const all = await cli(["quarantine", "retry", "--all", "--json"], { env: at(dir) });
  expect(JSON.parse(all.out)).toEqual({ retried: 3, missing: [] });
  expect(asked).toEqual([`${epoch}-2`, undefined]);
});

test("drop takes several ids, tells those that are not there, and fails for them", async () => {
  const { dir, parked } = await startQuarantine();
  const ids = [`${epoch}-3`, `${epoch}-99`, `${epoch}-1`];
  const { status, out, err } = await cli(["quarantine", "drop", ...ids], { env: at(dir) });
  expect([status, out]).toEqual([1, "2 dropped\n"]);
  expect(err).toContain(`${epoch}-99`);
  expect([...parked.keys()]).toEqual([`${epoch}-2`]);
  expect((await cli(["quarantine", "drop", "--all"], { env: at(dir) })).out).toBe("1 dropped\n");
  expect((await cli(["quarantine", "drop", "--all"], { env: at(dir) })).out).toBe("0 dropped\n");
});

test.each([
  ["quarantine", "retry"],
  ["quarantine", "drop"],
  ["quarantine", "drop", "x", "--all"],
])("%s %s without saying what, or with both: exit 2", async (...argv) => {
  const { dir, parked } = await startQuarantine();
  const { status, err } = await cli(argv, { env: at(dir) });
  expect(status).toBe(2);
  expect(err).toContain("--all");
  expect(parked.size).toBe(3);
});

test("without an agent: exit 3", async () => {
  const { dir, control } = await startQuarantine();
  await control.stop(AbortSignal.abort());
  expect((await cli(["quarantine", "retry", "--all"], { env: at(dir) })).status).toBe(3);
});

describe("over the local API", () => {
  test("POST ID:retry, DELETE ID, and both without an id for all", async () => {
    const { ask, parked } = await startQuarantine();
    const retried = await ask("POST", `/v1/quarantine/${epoch}-1:retry`);
    expect([retried.status, retried.json]).toEqual([200, { retried: 1 }]);
    expect((await ask("POST", "/v1/quarantine:retry")).json).toEqual({ retried: 3 });
    expect((await ask("DELETE", `/v1/quarantine/${epoch}-1`)).json).toEqual({ dropped: 1 });
    expect((await ask("DELETE", "/v1/quarantine")).json).toEqual({ dropped: 2 });
    expect(parked.size).toBe(0);
  });

  test("an unknown id is 404, another method 405, the producers' socket 403", async () => {
    const { ask } = await startQuarantine();
    for (const [method, path, status] of [
      ["POST", "/v1/quarantine/nothing:retry", 404],
      ["DELETE", "/v1/quarantine/nothing", 404],
      ["POST", "/v1/quarantine", 405],
      ["DELETE", "/v1/quarantine:retry", 405],
    ] as const) {
      expect((await ask(method, path)).status, `${method} ${path}`).toBe(status);
    }
    const socket = "producer.sock";
    expect((await ask("DELETE", "/v1/quarantine", { socket })).status).toBe(403);
    expect((await ask("POST", "/v1/quarantine:retry", { socket })).status).toBe(403);
  });
});

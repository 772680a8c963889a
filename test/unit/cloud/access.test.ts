import { describe, expect, it } from "vitest";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../../agent/protocol/connect-signature.ts";
import { makeHttpSignature } from "../../../agent/protocol/http-signature.ts";
import {
  type Directory,
  decideConnect,
  decidePublish,
  decideStatus,
  decideSubscribe,
  mayReceive,
  type Principal,
  type TokenKeeper,
  tokenFault,
} from "../../../cloud/access/access.ts";

const directory: Directory = {
  accounts: new Map([
    ["LTAItestAccessKey01", "XXXXX"],
    ["YYYYY", "XXXXX"],
  ]),
  instanceId: "mqtt-xxxxx",
  groups: new Set(["GID_Test"]),
  topics: new Map([["fleet", { ordered: false }]]),
};
const limits = { clientIdMax: 64, topicMax: 128, timestampWindowMs: 300_000 };
const noTokens: TokenKeeper = { open: () => tokenFault.forged, faultOf: () => undefined };
const clientId = "GID_Test@@@0001";
const username = "Signature|YYYYY|mqtt-xxxxx";
const password = "vI009IZJZVGRwBwZvnbwjfuXxVM="; // lmq-protocol 3, vector S1

describe("connecting in signature mode", () => {
  it("takes vector S1", () => {
    const request = { clientId, username, password };
    const decision = decideConnect(directory, limits, request, noTokens);
    expect(decision).toMatchObject({ allow: true, principal: { accessKey: "YYYYY" } });
  });

  const of = (id: string) => makeConnectPassword("XXXXX", id);
  const long = `GID_Test@@@${"d".repeat(54)}`;
  it.each([
    ["a wrong password", { password: of("GID_Test@@@0002") }, "not_authorized"],
    ["a password of another length", { password: "x" }, "not_authorized"],
    ["no password", { password: undefined }, "not_authorized"],
    ["no user name", { username: undefined }, "not_authorized"],
    ["an unknown account", { username: "Signature|NOBODY|mqtt-xxxxx" }, "not_authorized"],
    ["another instance", { username: "Signature|YYYYY|mqtt-other" }, "not_authorized"],
    [
      "a mode that is not offered",
      { username: "DeviceCredential|YYYYY|mqtt-xxxxx" },
      "not_authorized",
    ],
    ["a user name with a fourth part", { username: `${username}|x` }, "not_authorized"],
    [
      "a group that was not created",
      { clientId: "GID_Else@@@1", password: of("GID_Else@@@1") },
      "unknown_group",
    ],
    ["65 characters", { clientId: long, password: of(long) }, "too_long"],
    ["an empty id", { clientId: "" }, "malformed"],
    ["no separator", { clientId: "GID_Test" }, "malformed"],
    ["no device", { clientId: "GID_Test@@@" }, "malformed"],
    ["a slash", { clientId: "GID_Test@@@a/b" }, "malformed"],
  ] as const)("refuses %s", (_, change, code) => {
    const request = { clientId, username, password, ...change };
    const decision = decideConnect(directory, limits, request, noTokens);
    expect(decision).toMatchObject({ allow: false, code });
  });
});

describe("topics", () => {
  const principal = { mode: "signature" } as Principal;

  it.each([
    ["fleet", true],
    ["fleet/a/b", true],
    ["fleet/p2p/GID_Test@@@0001", true],
    ["$SYS/uploadToken", true],
    ["$SYS/enableOrderMsg", true],
    ["$SYS/getOfflineMsg", true],
    [`fleet/${"x".repeat(122)}`, true],
    [`fleet/${"x".repeat(123)}`, "too_long"],
    ["other/a", "no_permission"],
    ["Fleet", "no_permission"],
    ["$SYS/tokenInvalidNotice", "no_permission"],
    ["$SYS/broker/load", "no_permission"],
    ["$share/g/fleet", "no_permission"],
    ["fleet/+", "malformed"],
    ["fleet/#", "malformed"],
    ["", "malformed"],
    ["/fleet", "malformed"],
    ["fleet/\u0000", "malformed"],
  ])("publish to %j", (topic, expected) => {
    const decision = decidePublish(directory, limits, { principal, topic }, noTokens);
    expect(decision.allow || decision.code).toBe(expected);
  });

  it.each([
    ["fleet/+/b/#", true],
    ["fleet/#", true],
    ["$SYS/tokenExpireNotice", true],
    ["other/#", "no_permission"],
    ["$SYS/#", "no_permission"],
    ["+/a", "malformed"],
    ["#", "malformed"],
    ["fleet/a+", "malformed"],
    ["fleet/#/a", "malformed"],
  ])("subscribe to %j", (filter, expected) => {
    const decision = decideSubscribe(directory, limits, { principal, filter }, noTokens);
    expect(decision.allow || decision.code).toBe(expected);
  });

  it("keeps messages for well-formed ids of existing groups alone", () => {
    expect(mayReceive(directory, "GID_Test@@@new")).toBe(true);
    expect(mayReceive(directory, "GID_Else@@@new")).toBe(false);
    expect(mayReceive(directory, "GID_Test")).toBe(false);
    expect(mayReceive(directory, "")).toBe(false);
  });
});

describe("the status query", () => {
  const nowMs = 1_568_419_200_000;
  const base = {
    accessKey: "LTAItestAccessKey01",
    resource: clientId,
    timestamp: String(nowMs),
    instanceId: "mqtt-xxxxx",
  };

  function ask(change: Partial<typeof base>, extra: Record<string, string[]> = {}, atMs = nowMs) {
    const signed = { ...base, ...change };
    const parameters = new Map<string, readonly string[]>(
      Object.entries({
        ...Object.fromEntries(Object.entries(signed).map(([k, v]) => [k, [v]])),
        signature: [makeHttpSignature("XXXXX", signed)],
        ...extra,
      }),
    );
    const decision = decideStatus(directory, limits, { parameters, nowMs: atMs });
    return decision.allow ? 0 : [decision.http, decision.code];
  }

  it("takes vector H3", () => {
    expect(ask({}, { signature: ["K0jlA3x+5ebDm8w0a94iRn8iYcc="] })).toBe(0);
  });

  it("answers each fault with its codes", () => {
    expect(ask({}, { resource: [] })).toEqual([400, 1]);
    expect(ask({}, { signature: [] })).toEqual([400, 1]);
    expect(ask({}, { resource: [clientId, clientId] })).toEqual([400, 1]);
    expect(ask({ timestamp: "soon" })).toEqual([400, 1]);
    expect(ask({}, { signature: ["K0jlA3x+5ebDm8w0a94iRn8iYcd="] })).toEqual([403, 2]);
    expect(ask({ accessKey: "NOBODY" })).toEqual([403, 2]);
    expect(ask({ resource: "GID_Else@@@1" })).toEqual([403, 3]);
    expect(ask({ resource: "nonsense" })).toEqual([403, 3]);
    expect(ask({ instanceId: "mqtt-other" })).toEqual([403, 3]);
  });

  it("takes a timestamp five minutes off on either side, and not a moment more", () => {
    expect(ask({}, {}, nowMs + 300_000)).toBe(0);
    expect(ask({}, {}, nowMs - 300_000)).toBe(0);
    expect(ask({}, {}, nowMs + 300_001)).toEqual([403, 4]);
    expect(ask({}, {}, nowMs - 300_001)).toEqual([403, 4]);
  });
});

it("uses the user name that devices make", () => {
  const parts = { mode: "Signature", accessKey: "YYYYY", instanceId: "mqtt-xxxxx" } as const;
  expect(makeConnectUsername(parts)).toBe(username);
});

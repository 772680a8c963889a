import { describe, expect, it } from "vitest";
import {
  type Directory,
  decideAboutToken,
  decideTokenApply,
} from "../../../cloud/access/access.ts";
import { signature } from "../../support/token-api.ts";

const directory: Directory = {
  accounts: new Map([["AK", "XXXXX"]]),
  instanceId: "mqtt-xxxxx",
  groups: new Set(),
  topics: new Map(),
};
const expireTime = 1_568_505_600_000;
const nowMs = expireTime - 86_400_000;
const limits = {
  ...{ clientIdMax: 64, topicMax: 128, timestampWindowMs: 300_000 },
  ...{ tokenResources: 100, tokenMinLifeMs: 60_000, tokenMaxLifeMs: 2_592_000_000 },
};
/** lmq-protocol 4.4, vector H1. */
const h1 = {
  actions: "R,W",
  resources: "fleet/+,telemetry/#",
  expireTime: String(expireTime),
  serviceName: "mq",
  instanceId: "mqtt-xxxxx",
  proxyType: "MQTT",
  accessKey: "AK",
  signature: "Z9urzJfeMzNrJfMuTlvZMYP4vug=",
};

type Change = Partial<Record<keyof typeof h1, string | readonly string[]>>;

function parametersOf(fields: Record<string, string | readonly string[]>) {
  return new Map(Object.entries(fields).map(([k, v]) => [k, typeof v === "string" ? [v] : v]));
}

function apply(change: Change = {}, atMs = nowMs) {
  return decideTokenApply(directory, limits, {
    parameters: parametersOf({ ...h1, ...change }),
    nowMs: atMs,
  });
}

/** The same, signed again. */
function applySigned(change: Partial<Record<keyof typeof h1, string>>, atMs = nowMs) {
  const { proxyType, accessKey, signature: _, ...signed } = { ...h1, ...change };
  return apply({ proxyType, accessKey, ...signed, signature: signature("XXXXX", signed) }, atMs);
}

function codeOf(decision: { readonly allow: boolean; readonly code?: number }) {
  return decision.allow ? 200 : decision.code;
}

describe("/token/apply (lmq-protocol 4.3)", () => {
  it("takes vector H1, and its values in any order", () => {
    const expected = {
      allow: true,
      accessKey: "AK",
      actions: "RW",
      resources: ["fleet/+", "telemetry/#"],
      expiresAt: expireTime,
    };
    expect(apply()).toEqual(expected);
    const shuffled = apply({ actions: "W,R", resources: "telemetry/#,fleet/+" });
    expect(shuffled).toEqual({ ...expected, resources: ["telemetry/#", "fleet/+"] });
  });

  it.each(Object.keys(h1) as (keyof typeof h1)[])("without %s, or with two of it: 400", (name) => {
    expect(codeOf(apply({ [name]: [] }))).toBe(400);
    expect(codeOf(apply({ [name]: "" }))).toBe(400);
    expect(codeOf(apply({ [name]: [h1[name], h1[name]] }))).toBe(400);
  });

  it.each([
    ["an action that is none", { actions: "X" }],
    ["an action twice", { actions: "R,R" }],
    ["RW as one word", { actions: "RW" }],
    ["an empty resource", { resources: "fleet/+," }],
    ["a resource without a literal parent", { resources: "+/a" }],
    ["a resource that is no filter", { resources: "fleet/a#" }],
    ["a resource that belongs to the service", { resources: "$SYS/#" }],
    ["a resource over the length of a topic", { resources: `fleet/${"x".repeat(123)}` }],
    ["101 resources", { resources: Array.from({ length: 101 }, (_, i) => `f/${i}`).join(",") }],
    ["another serviceName", { serviceName: "ons" }],
    ["another proxyType", { proxyType: "AMQP" }],
    ["an instance that is not there", { instanceId: "mqtt-other" }],
    ["an expireTime that is no number", { expireTime: "tomorrow" }],
    ["an expireTime in seconds", { expireTime: "1568505600" }],
  ] as const)("%s: 400, also where the signature is right", (_, change) => {
    expect(codeOf(applySigned(change))).toBe(400);
  });

  it("takes 100 resources", () => {
    const names = Array.from({ length: 100 }, (_, i) => `f/${String(i).padStart(3, "0")}`);
    const decision = applySigned({ resources: names.join(",") });
    expect(decision).toMatchObject({ allow: true, resources: names });
  });

  it("a life under 60 s is refused, but for the moment that the request was under way", () => {
    expect(codeOf(apply({}, expireTime - 60_000))).toBe(200);
    expect(codeOf(apply({}, expireTime - 59_000))).toBe(200);
    expect(codeOf(apply({}, expireTime - 58_999))).toBe(400);
    expect(codeOf(apply({}, expireTime + 1))).toBe(400);
  });

  it("a life over 30 days is shortened to it", () => {
    const thirtyDaysMs = 2_592_000_000;
    expect(apply({}, expireTime - thirtyDaysMs)).toMatchObject({ expiresAt: expireTime });
    expect(apply({}, expireTime - thirtyDaysMs - 1)).toMatchObject({ expiresAt: expireTime - 1 });
  });

  it.each([
    ["a wrong signature", { signature: "Z9urzJfeMzNrJfMuTlvZMYP4vuh=" }],
    ["a signature of another length", { signature: "x" }],
    ["an unknown account", { accessKey: "NOBODY" }],
    ["a value that was changed after signing", { resources: "fleet/#,telemetry/#" }],
  ])("%s: 407", (_, change) => {
    expect(codeOf(apply(change))).toBe(407);
  });

  it("what stands in for the secret of an account that does not exist opens nothing", () => {
    const { proxyType, accessKey: _, signature: __, ...signed } = h1;
    const forged = signature("no account has this secret", signed);
    expect(codeOf(apply({ proxyType, accessKey: "NOBODY", signature: forged }))).toBe(407);
  });

  it("400 is checked before 407", () => {
    expect(codeOf(apply({ signature: "x", serviceName: "ons" }))).toBe(400);
    expect(codeOf(apply({ accessKey: "NOBODY", expireTime: "soon" }))).toBe(400);
  });
});

describe("/token/revoke and /token/query", () => {
  const h2 = { token: "AbC+/dEf012==", accessKey: "AK", signature: "kOHG4oFIJpCePcJlpuDIn7EHIsM=" };
  const ask = (change: Partial<Record<keyof typeof h2, string | string[]>> = {}) =>
    decideAboutToken(directory, parametersOf({ ...h2, ...change }));

  it("take vector H2", () => {
    expect(ask()).toEqual({ allow: true, accessKey: "AK", token: h2.token });
  });

  it("answer a missing or doubled parameter with 400, the rest with 407", () => {
    for (const name of ["token", "accessKey", "signature"] as const) {
      expect(codeOf(ask({ [name]: [] }))).toBe(400);
      expect(codeOf(ask({ [name]: [h2[name], h2[name]] }))).toBe(400);
    }
    expect(codeOf(ask({ token: "AbC /dEf012==" }))).toBe(407);
    expect(codeOf(ask({ accessKey: "NOBODY" }))).toBe(407);
    expect(codeOf(ask({ signature: "kOHG4oFIJpCePcJlpuDIn7EHIsN=" }))).toBe(407);
  });
});

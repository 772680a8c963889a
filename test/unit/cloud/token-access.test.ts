import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseClientId } from "../../../agent/protocol/client-id.ts";
import { topicMatches } from "../../../agent/protocol/topics.ts";
import {
  type Directory,
  decideConnect,
  decidePublish,
  decideSubscribe,
  decideTokenReceive,
  decideUpload,
  type TokenFault,
  type TokenGrant,
  type TokenKeeper,
  type TokenPrincipal,
  type TokenType,
  tokenFault,
} from "../../../cloud/access/access.ts";

const directory: Directory = {
  accounts: new Map([["AK", "SK"]]),
  instanceId: "mqtt-local",
  groups: new Set(["GID_demo"]),
  topics: new Map([["fleet", { ordered: false }]]),
};
const limits = { clientIdMax: 64, topicMax: 128, timestampWindowMs: 300_000 };
const clientId = "GID_demo@@@gw-01";

/** Tokens by their text, and what is wrong with those that are not alive. */
class FakeKeeper implements TokenKeeper {
  readonly grants = new Map<string, TokenGrant>();
  readonly faults = new Map<string, TokenFault>();

  add(text: string, change: Partial<TokenGrant> = {}): TokenGrant {
    const base = { id: text, accessKey: "AK", instanceId: "mqtt-local", actions: "RW" } as const;
    const grant = { ...base, resources: ["fleet/#"], expiresAt: 1, epoch: 0, ...change };
    this.grants.set(text, grant);
    return grant;
  }

  open(text: string): TokenGrant | TokenFault {
    return this.grants.get(text) ?? tokenFault.forged;
  }

  faultOf({ id }: TokenGrant): TokenFault | undefined {
    return this.faults.get(id);
  }
}

function principalOf(tokens: Partial<Record<TokenType, TokenGrant>>): TokenPrincipal {
  return {
    mode: "token",
    accessKey: "AK",
    clientId: parseClientId(clientId, "lmq"),
    tokens: new Map(Object.entries(tokens) as [TokenType, TokenGrant][]),
  };
}

function connect(keeper: TokenKeeper, password: string, username = "Token|AK|mqtt-local") {
  const decision = decideConnect(directory, limits, { clientId, username, password }, keeper);
  return decision.allow || (decision.notice ?? decision.code);
}

function publish(keeper: TokenKeeper, principal: TokenPrincipal, topic: string) {
  const decision = decidePublish(directory, limits, { principal, topic }, keeper);
  return decision.allow || (decision.notice ?? decision.code);
}

function subscribe(keeper: TokenKeeper, principal: TokenPrincipal, filter: string) {
  const decision = decideSubscribe(directory, limits, { principal, filter }, keeper);
  return decision.allow || (decision.notice ?? decision.code);
}

describe("the password of token mode", () => {
  it.each(["RW|t", "R|t|W|t", "W|t|RW|t|R|t"])("%s is taken", (password) => {
    const keeper = new FakeKeeper();
    keeper.add("t");
    expect(connect(keeper, password)).toBe(true);
  });

  it.each([
    ["nothing", ""],
    ["no token", "RW|"],
    ["no type", "t"],
    ["a type that is none", "X|t"],
    ["a type in lower case", "rw|t"],
    ["one type twice", "R|t|R|t"],
    ["four tokens", "R|t|W|t|RW|t|R|t"],
    ["a bar too many", "R|t|"],
  ])("%s is unparsable", (_, password) => {
    const keeper = new FakeKeeper();
    keeper.add("t");
    expect(connect(keeper, password)).toEqual({ code: 1, type: "RW" });
  });

  it("a token of another account or instance is no permission", () => {
    const keeper = new FakeKeeper();
    keeper.add("other", { accessKey: "BK" });
    keeper.add("elsewhere", { instanceId: "mqtt-other" });
    expect(connect(keeper, "W|other")).toEqual({ code: -1, type: "W" });
    expect(connect(keeper, "RW|elsewhere")).toEqual({ code: -1, type: "RW" });
  });

  it("the instance of the user name must be this one, whatever the token", () => {
    const keeper = new FakeKeeper();
    keeper.add("t");
    expect(connect(keeper, "RW|t", "Token|AK|mqtt-other")).toBe("not_authorized");
  });

  it.each([tokenFault.expired, tokenFault.revoked, tokenFault.permission])(
    "a token with fault %i spoils the set",
    (code) => {
      const keeper = new FakeKeeper();
      keeper.add("good");
      keeper.add("bad");
      keeper.faults.set("bad", code);
      expect(connect(keeper, "R|good|W|bad")).toEqual({ code, type: "W" });
    },
  );
});

describe("what a set of tokens allows", () => {
  it.each([
    ["RW", "RW", true, true],
    ["RW", "R", { code: 5, type: "RW" }, true],
    ["RW", "W", true, { code: 5, type: "RW" }],
    ["R", "RW", { code: 5, type: "W" }, true],
    ["W", "RW", true, { code: 5, type: "R" }],
    ["W", "R", { code: 5, type: "W" }, { code: 5, type: "R" }],
  ] as const)("given as %s, issued for %s", (type, actions, publishing, subscribing) => {
    const keeper = new FakeKeeper();
    const principal = principalOf({ [type]: keeper.add("t", { actions }) });
    expect(publish(keeper, principal, "fleet/a")).toEqual(publishing);
    expect(subscribe(keeper, principal, "fleet/a")).toEqual(subscribing);
  });

  it("one token that suffices is enough", () => {
    const keeper = new FakeKeeper();
    const w = keeper.add("w", { resources: ["fleet/a"] });
    const rw = keeper.add("rw", { resources: ["fleet/b"] });
    const principal = principalOf({ W: w, RW: rw });
    expect(publish(keeper, principal, "fleet/a")).toBe(true);
    expect(publish(keeper, principal, "fleet/b")).toBe(true);
    expect(publish(keeper, principal, "fleet/c")).toMatchObject({ code: 4 });
  });

  it("where none does, what a new token mends is told before what it does not", () => {
    const keeper = new FakeKeeper();
    const w = keeper.add("w", { resources: ["fleet/a"] });
    const rw = keeper.add("rw", { resources: ["fleet/b"] });
    keeper.faults.set("w", tokenFault.expired);
    const principal = principalOf({ W: w, RW: rw });
    expect(publish(keeper, principal, "fleet/a")).toEqual({ code: 2, type: "W" });
    const reader = keeper.add("reader", { actions: "R" });
    expect(publish(keeper, principalOf({ W: rw, RW: reader }), "fleet/a")).toEqual({
      ...{ code: 4, type: "W" },
    });
  });

  it("a covered parent topic must have been created", () => {
    const keeper = new FakeKeeper();
    const principal = principalOf({ RW: keeper.add("t", { resources: ["nowhere/#", "fleet/#"] }) });
    expect(publish(keeper, principal, "nowhere/a")).toEqual({ code: -1, type: "RW" });
    expect(subscribe(keeper, principal, "nowhere/#")).toEqual({ code: -1, type: "RW" });
  });

  it("the form of a topic comes before its rights, and $SYS needs none", () => {
    const keeper = new FakeKeeper();
    const principal = principalOf({ R: keeper.add("t", { actions: "R" }) });
    keeper.faults.set("t", tokenFault.expired);
    expect(publish(keeper, principal, "fleet/+")).toBe("malformed");
    expect(publish(keeper, principal, `fleet/${"x".repeat(200)}`)).toBe("too_long");
    expect(publish(keeper, principal, "$SYS/uploadToken")).toBe(true);
    expect(subscribe(keeper, principal, "$SYS/tokenInvalidNotice")).toBe(true);
    expect(publish(keeper, principal, "$SYS/tokenInvalidNotice")).toBe("no_permission");
  });

  it("P2P needs W on the P2P topic", () => {
    const keeper = new FakeKeeper();
    const principal = principalOf({ W: keeper.add("t", { resources: ["fleet/p2p/#"] }) });
    expect(publish(keeper, principal, `fleet/p2p/${clientId}`)).toBe(true);
    expect(publish(keeper, principal, "fleet/up")).toEqual({ code: 4, type: "W" });
  });
});

describe("receiving", () => {
  it("needs a living token for reading, or any where there is none for reading", () => {
    const keeper = new FakeKeeper();
    const [r, w] = [keeper.add("r"), keeper.add("w")];
    expect(decideTokenReceive(keeper, principalOf({ R: r, W: w })).allow).toBe(true);
    expect(decideTokenReceive(keeper, principalOf({ W: w })).allow).toBe(true);
    keeper.faults.set("r", tokenFault.expired);
    expect(decideTokenReceive(keeper, principalOf({ R: r, W: w }))).toMatchObject({
      notice: { code: 2, type: "R" },
    });
    expect(decideTokenReceive(keeper, principalOf({ R: r, RW: w })).allow).toBe(true);
  });
});

describe("an upload", () => {
  const payload = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

  it("puts its token beside or in the place of the others", () => {
    const keeper = new FakeKeeper();
    const [r, w] = [keeper.add("r"), keeper.add("w")];
    const principal = principalOf({ R: r });
    const request = { principal, payload: payload({ token: "w", type: "W", more: 1 }) };
    const decision = decideUpload(directory, keeper, request);
    expect(decision.allow && [...decision.principal.tokens]).toEqual([
      ["R", r],
      ["W", w],
    ]);
    expect([...principal.tokens]).toEqual([["R", r]]);
  });

  it.each([
    ["no object", ["t"]],
    ["no token", { type: "R" }],
    ["a token that is no text", { type: "R", token: 1 }],
    ["no type", { token: "t" }],
    ["two types", { token: "t", type: "R,W" }],
  ])("%s is unparsable", (_, value) => {
    const keeper = new FakeKeeper();
    keeper.add("t");
    const principal = principalOf({ R: keeper.add("r") });
    const decision = decideUpload(directory, keeper, { principal, payload: payload(value) });
    expect(decision).toMatchObject({ allow: false, notice: { code: 1 } });
  });
});

describe("resources", () => {
  const level = fc.constantFrom("a", "b", "+");
  const filterOf = fc
    .tuple(fc.array(level, { maxLength: 3 }), fc.boolean())
    .map(([levels, open]) => ["fleet", ...levels, ...(open ? ["#"] : [])].join("/"));
  /** Every topic of up to five levels; `z` stands for any level that no filter names. */
  const topics = ["fleet"];
  for (let from = 0, depth = 0; depth < 4; depth++) {
    const end = topics.length;
    for (; from < end; from++) topics.push(...["a", "b", "z"].map((l) => `${topics[from]}/${l}`));
  }

  it("cover a filter when they take every topic that it can take, and only then", () => {
    fc.assert(
      fc.property(filterOf, filterOf, (resource, filter) => {
        const keeper = new FakeKeeper();
        const principal = principalOf({ R: keeper.add("t", { resources: [resource] }) });
        const covered = topics.every(
          (topic) => !topicMatches(filter, topic) || topicMatches(resource, topic),
        );
        expect(subscribe(keeper, principal, filter) === true).toBe(covered);
      }),
      { numRuns: 500 },
    );
  });

  it("cover a topic as they would take it", () => {
    fc.assert(
      fc.property(filterOf, fc.constantFrom(...topics), (resource, topic) => {
        const keeper = new FakeKeeper();
        const principal = principalOf({ W: keeper.add("t", { resources: [resource] }) });
        expect(publish(keeper, principal, topic) === true).toBe(topicMatches(resource, topic));
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    ["fleet/#", "fleet", true],
    ["fleet/+", "fleet/#", false],
    ["fleet/+/#", "fleet/#", false],
    ["fleet/+", "fleet/+", true],
    ["fleet/a", "fleet/+", false],
  ])("%s for a subscription to %s: %s", (resource, filter, covered) => {
    const keeper = new FakeKeeper();
    const principal = principalOf({ R: keeper.add("t", { resources: [resource] }) });
    expect(subscribe(keeper, principal, filter) === true).toBe(covered);
  });
});

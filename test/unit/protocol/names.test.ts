import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isHoldfastError } from "../../../agent/core/errors.ts";
import {
  isClientId,
  isGroupId,
  makeClientId,
  parseClientId,
} from "../../../agent/protocol/client-id.ts";
import {
  checkParentTopic,
  checkPublishTopic,
  checkTopicFilter,
  isControlTopic,
  makeP2pTopic,
  parentOf,
  parseP2pTopic,
  topicLength,
  topicMatches,
} from "../../../agent/protocol/topics.ts";

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return isHoldfastError(error) ? error.code : String(error);
  }
}

describe("client ids of LMQ, lmq-protocol 1.1", () => {
  test("split at the first @@@", () => {
    expect(parseClientId("GID_Test@@@0001", "lmq")).toEqual({
      text: "GID_Test@@@0001",
      group: "GID_Test",
      device: "0001",
    });
    expect(makeClientId("GID_Test", "gw-rpi4_1")).toBe("GID_Test@@@gw-rpi4_1");
  });

  test.each(["", "GID_Test", "@@@d", "GID_Test@@@", "GID_Test@@d", "g@@@d@@@e", "g@@@@d"])(
    "%j is refused",
    (text) => expect(codeOf(() => parseClientId(text, "lmq"))).toBe("client_id_invalid"),
  );

  test.each(["/", ":", ",", "%", " ", "+", "#", ".", "ü", "\0", "\ud800", "\n"])(
    "the character %j is refused in both parts",
    (character) => {
      expect(isClientId(`GID_${character}Test@@@d`, "lmq")).toBe(false);
      expect(isClientId(`GID_Test@@@d${character}`, "lmq")).toBe(false);
    },
  );

  test("64 characters pass and 65 do not", () => {
    expect(isClientId(`GID_F@@@${"d".repeat(56)}`, "lmq")).toBe(true);
    expect(isClientId(`GID_F@@@${"d".repeat(57)}`, "lmq")).toBe(false);
  });

  test("a group id has 7 to 64 characters and its prefix", () => {
    expect(["GID_abc", "GID-abc", `GID_${"a".repeat(60)}`].every(isGroupId)).toBe(true);
    const wrong = ["GID_ab", "gid_abc", "XID_abc", "GID_a.c", `GID_${"a".repeat(61)}`];
    expect(wrong.filter(isGroupId)).toEqual([]);
  });
});

describe("client ids of a standard broker", () => {
  test("the whole id is the device", () => {
    const id = parseClientId("Haus 3 / Keller".replaceAll("/", "."), "mqtt");
    expect(id).toEqual({ text: "Haus 3 . Keller", group: undefined, device: "Haus 3 . Keller" });
    expect(parseClientId("GID_Test@@@0001", "mqtt").group).toBeUndefined();
  });

  test.each(["", "a/b", "a+", "#", "a\0", "a\ud800", "x".repeat(129)])("%j is refused", (text) =>
    expect(codeOf(() => parseClientId(text, "mqtt"))).toBe("client_id_invalid"),
  );
});

describe("topics", () => {
  test.each(["GW_UP", "GW_UP/health/gw-01", "a/b//c", "a/", "GW_UP/Küche"])(
    "%j may be published to",
    (topic) => expect(codeOf(() => checkPublishTopic(topic))).toBeUndefined(),
  );

  test.each(["", "/a", "$SYS/x", "a/+", "a/#", "a/b+", "a\0b", "a/\ud800", "a/\n"])(
    "%j may not be published to",
    (topic) => expect(codeOf(() => checkPublishTopic(topic))).toBe("topic_invalid"),
  );

  test("length is warned of above 64 and refused above the bound", () => {
    const of = (length: number): string => `a/${"b".repeat(length - 2)}`;
    expect([64, 65, 128, 129].map((length) => topicLength(of(length)))).toEqual([
      "ok",
      "long",
      "long",
      "too_long",
    ]);
    expect(codeOf(() => checkPublishTopic(of(128)))).toBeUndefined();
    expect(codeOf(() => checkPublishTopic(of(129)))).toBe("topic_too_long");
    expect(codeOf(() => checkPublishTopic(of(65), 64))).toBe("topic_too_long");
    expect(codeOf(() => checkTopicFilter(of(65), 64))).toBe("topic_too_long");
  });

  test.each(["a/#", "a/+/b", "a/+/#", "a/b", "a"])("the filter %j is valid", (filter) =>
    expect(codeOf(() => checkTopicFilter(filter))).toBeUndefined(),
  );

  test.each(["#", "+", "+/a", "a/#/b", "a/b#", "a/b+", "a/+b", "", "$SYS/#", "/a"])(
    "the filter %j is refused",
    (filter) => expect(codeOf(() => checkTopicFilter(filter))).toBe("topic_invalid"),
  );

  test("a parent topic is one plain level", () => {
    expect(codeOf(() => checkParentTopic("GW_UP-2"))).toBeUndefined();
    for (const wrong of ["", "a/b", "a b", "$SYS", "ü", "+"]) {
      expect(codeOf(() => checkParentTopic(wrong))).toBe("topic_invalid");
    }
  });

  test("the parent is the first level", () => {
    expect(["a", "a/b/c"].map(parentOf)).toEqual(["a", "a"]);
    expect(isControlTopic("$SYS/uploadToken")).toBe(true);
    expect(isControlTopic("SYS/$")).toBe(false);
  });
});

describe("P2P topics, lmq-protocol 5", () => {
  test("are made and read back", () => {
    const topic = makeP2pTopic("GW_DOWN", "GID_Test@@@0001");
    expect(topic).toBe("GW_DOWN/p2p/GID_Test@@@0001");
    expect(parseP2pTopic(topic)).toEqual({ parent: "GW_DOWN", clientId: "GID_Test@@@0001" });
  });

  test.each(["a/p2p", "a/p2p/", "a/p2p/x/y", "a/P2P/x", "/p2p/x", "a/b/x", "p2p/x", ""])(
    "%j addresses nobody",
    (topic) => expect(parseP2pTopic(topic)).toBeUndefined(),
  );
});

describe("matching", () => {
  test.each([
    ["a/b", "a/b", true],
    ["a/b", "a/b/c", false],
    ["a/+", "a/b", true],
    ["a/+", "a/", true],
    ["a/+", "a", false],
    ["a/+", "a/b/c", false],
    ["a/+/c", "a/b/c", true],
    ["a/#", "a", true],
    ["a/#", "a/b/c", true],
    ["a/+/#", "a", false],
    ["a/+/#", "a/b", true],
    ["a/b", "a", false],
    ["A/b", "a/b", false],
    ["#", "$SYS/x", false],
    ["+/x", "$SYS/x", false],
    ["$SYS/#", "$SYS/x", true],
  ])("%s takes %s: %s", (filter, topic, expected) => {
    expect(topicMatches(filter, topic)).toBe(expected);
  });

  const level = fc.constantFrom("a", "b", "");
  const levels = fc.array(level, { minLength: 1, maxLength: 5 }).map((all) => ["P", ...all]);

  test("a filter made from a topic by putting wildcards in takes that topic", () => {
    fc.assert(
      fc.property(levels, fc.array(fc.boolean()), fc.nat(5), (topic, plus, cut) => {
        const wild = topic.map((one, i) => (i > 0 && plus[i] ? "+" : one));
        expect(topicMatches(wild.join("/"), topic.join("/"))).toBe(true);
        const hash = [...wild.slice(0, 1 + (cut % topic.length)), "#"];
        expect(topicMatches(hash.join("/"), topic.join("/"))).toBe(true);
        expect(topicMatches(["Q", ...wild.slice(1)].join("/"), topic.join("/"))).toBe(false);
      }),
    );
  });
});

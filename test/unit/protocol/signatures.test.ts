import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  makeConnectPassword,
  makeConnectUsername,
  parseConnectUsername,
  verifyConnectPassword,
} from "../../../agent/protocol/connect-signature.ts";
import {
  makeHttpSignature,
  splitList,
  stringToSign,
  verifyHttpSignature,
} from "../../../agent/protocol/http-signature.ts";

describe("the CONNECT signature, lmq-protocol 3", () => {
  const longId = `GID_F${"L".repeat(20)}@@@${"d".repeat(36)}`;
  const vectors = [
    ["S1", "XXXXX", "GID_Test@@@0001", "vI009IZJZVGRwBwZvnbwjfuXxVM="],
    [
      "S2",
      "hf+SecretKey/0123456789=ABCDEFGHIJ",
      "GID_holdfast@@@gw-rpi4_000001",
      "h57OyRWu7I2Tp/rXr/EKp6UVR4I=",
    ],
    ["S3", "密钥Secret-ü", longId, "QDf6Vkb8pblRG+smpJ2MCTFpkgI="],
  ] as const;

  test.each(vectors)("vector %s is made and verified", (_name, secret, clientId, password) => {
    expect(makeConnectPassword(secret, clientId)).toBe(password);
    expect(verifyConnectPassword({ secret, clientId, password })).toBe(true);
  });

  test("one wrong character, a shorter or an empty password is refused", () => {
    const [, secret, clientId, password] = vectors[0];
    for (const wrong of [`w${password.slice(1)}`, password.slice(0, -1), `${password}=`, ""]) {
      expect(verifyConnectPassword({ secret, clientId, password: wrong })).toBe(false);
    }
    expect(verifyConnectPassword({ secret, clientId: "GID_Test@@@0002", password })).toBe(false);
  });

  test("a password always has 28 characters", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (secret, clientId) => {
        expect(makeConnectPassword(secret, clientId)).toMatch(/^[A-Za-z0-9+/]{27}=$/);
      }),
    );
  });

  test("the user name of S1", () => {
    const parts = { mode: "Signature", accessKey: "YYYYY", instanceId: "mqtt-xxxxx" } as const;
    expect(makeConnectUsername(parts)).toBe("Signature|YYYYY|mqtt-xxxxx");
    expect(parseConnectUsername("Signature|YYYYY|mqtt-xxxxx")).toEqual(parts);
    expect(parseConnectUsername("Token|A|i")?.mode).toBe("Token");
  });

  test.each(["", "Signature", "Signature|A", "Signature||i", "Signature|A|", "signature|A|i"])(
    "the user name %j is refused",
    (text) => expect(parseConnectUsername(text)).toBeUndefined(),
  );

  test("a user name of four parts or an unknown mode is refused", () => {
    expect(parseConnectUsername("Signature|A|i|x")).toBeUndefined();
    expect(parseConnectUsername("toString|A|i")).toBeUndefined();
  });
});

describe("the HTTP signature, lmq-protocol 4.4", () => {
  const apply = {
    actions: ["R", "W"],
    expireTime: "1568505600000",
    instanceId: "mqtt-xxxxx",
    resources: ["fleet/+", "telemetry/#"],
    serviceName: "mq",
  };
  const status = {
    timestamp: "1568419200000",
    resource: "GID_Test@@@0001",
    instanceId: "mqtt-xxxxx",
    accessKey: "LTAItestAccessKey01",
  };
  const vectors = [
    [
      "H1",
      apply,
      "actions=R,W&expireTime=1568505600000&instanceId=mqtt-xxxxx&resources=fleet/+,telemetry/#&serviceName=mq",
      "Z9urzJfeMzNrJfMuTlvZMYP4vug=",
    ],
    ["H2", { token: "AbC+/dEf012==" }, "token=AbC+/dEf012==", "kOHG4oFIJpCePcJlpuDIn7EHIsM="],
    [
      "H3",
      status,
      "accessKey=LTAItestAccessKey01&instanceId=mqtt-xxxxx&resource=GID_Test@@@0001&timestamp=1568419200000",
      "K0jlA3x+5ebDm8w0a94iRn8iYcc=",
    ],
    [
      "H4",
      { paramc: ["c2", "c1"], parama: "a", paramb: ["b1", "b2", "b3"] },
      "parama=a&paramb=b1,b2,b3&paramc=c1,c2",
      "5MkABB5zHWDmJVhXM6K+WfwD2/E=",
    ],
  ] as const;

  test.each(vectors)("vector %s is made and verified", (_name, parameters, text, signature) => {
    expect(stringToSign(parameters)).toBe(text);
    expect(makeHttpSignature("XXXXX", parameters)).toBe(signature);
    expect(verifyHttpSignature({ secret: "XXXXX", parameters, signature })).toBe(true);
    expect(verifyHttpSignature({ secret: "XXXXY", parameters, signature })).toBe(false);
  });

  test("H1 holds for values in another order, given as lists or as text", () => {
    const [, , , signature] = vectors[0];
    const lists = { ...apply, actions: ["W", "R"], resources: ["telemetry/#", "fleet/+"] };
    expect(makeHttpSignature("XXXXX", lists)).toBe(signature);
    const texts = {
      ...apply,
      actions: splitList("W,R"),
      resources: splitList("telemetry/#,fleet/+"),
    };
    expect(verifyHttpSignature({ secret: "XXXXX", parameters: texts, signature })).toBe(true);
  });

  test("keys and values are sorted by their bytes, not by UTF-16 units or a locale", () => {
    // U+FF5E comes before U+1F600 in UTF-8 and after it in UTF-16; capitals come before small ones.
    expect(stringToSign({ "\u{1f600}": "1", "\uff5e": "2", b: ["a", "B"], A: "3" })).toBe(
      "A=3&b=B,a&\uff5e=2&\u{1f600}=1",
    );
  });
});

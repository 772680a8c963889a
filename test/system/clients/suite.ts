/**
 * What every foreign client must be able to do with the local service. Each program is written from
 * the protocol's paper with another library and answers to the same verbs; the service is a process
 * of its own, on disk.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { whyMissing } from "../../../build/system-packages.ts";
import { makeAuthority, makeCertificate } from "../../support/certificates.ts";
import { spawnCloud } from "../../support/cloud-process.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";

export interface ForeignClient {
  readonly name: string;
  /** The Debian packages that it needs. */
  readonly packages: readonly string[];
  /** Program and first arguments; the verb follows. */
  command(): readonly string[];
  /** Whether its library can. */
  readonly websocket: boolean;
  /** What it prints for the verb `token`, where that is not what most print. */
  readonly tokenLines?: readonly string[];
}

interface Place {
  readonly ports: Readonly<Record<"mqtt" | "mqtts" | "ws" | "wss" | "http", number>>;
  /** PEM of the authority of its certificate. */
  readonly caFile: string;
}

const device = "GID_demo@@@foreign";
const settingsIn = (dir: string): string => `[[accounts]]
access_key = "AK"
secret = "SK-of-the-suite"
[instance]
id = "mqtt-local"
groups = ["GID_demo"]
topics = [{ name = "GW_UP" }, { name = "GW_DOWN" }]
[tls]
cert_file = "${dir}/cert.pem"
key_file = "${dir}/key.pem"
`;
const TOKEN_LINES = [
  ...["apply 200", "connack 0", "apply 200", "uploaded"],
  ...[`message GW_DOWN/p2p/${device} 1 with a token`, "query 200", "revoke 200"],
  ...["notice $SYS/tokenInvalidNotice 3", "closed", "query 3"],
];

/** The path of a file beside this one. */
export function beside(name: string): string {
  return fileURLToPath(new URL(`./${name}`, import.meta.url));
}

export function foreignClientSuite(client: ForeignClient): void {
  const missing = client.packages.map(whyMissing).find((why) => why !== undefined);

  describe(client.name, () => {
    beforeEach((context) => {
      if (missing !== undefined) context.skip(missing);
    });

    test("connects in signature mode and sends itself a P2P message", async () => {
      await expectHello(await start(), "self");
    });

    test("with a wrong secret is told code 5", async () => {
      const place = await start();
      const [first] = await run(client, place, ["self"], { SECRET: "wrong" });
      expect(first).toBe("connack 5");
    });

    test("gets what was sent to it while it was away, and while it is there", async () => {
      const place = await start();
      const from = { CLIENT_ID: "GID_demo@@@sender" };
      for (const text of ["one", "two"]) {
        const sent = await run(client, place, ["send", device, text], from);
        expect(sent).toEqual(["connack 0", "puback"]);
      }
      const receiver = spawnClient(client, place, ["receive", "3"], {});
      await waitFor(() => receiver.lines.filter(isMessage).length === 2, {
        what: "what waited for it",
      });
      await run(client, place, ["send", device, "three"], from);
      expect(await receiver.ended).toBe(0);
      const topic = `message GW_DOWN/p2p/${device} 1`;
      expect(receiver.lines.filter(isMessage).sort()).toEqual([
        ...[`${topic} one`, `${topic} three`, `${topic} two`],
      ]);
    });

    test("asks who is online over HTTP", async () => {
      const place = await start();
      expect(await run(client, place, ["status", device])).toEqual(["status 200 0 0"]);
      const receiver = spawnClient(client, place, ["receive", "1"], {});
      await waitFor(
        async () => (await run(client, place, ["status", device]))[0] === "status 200 0 1",
        { what: "its connection to be counted" },
      );
      await run(client, place, ["send", device, "end"], { CLIENT_ID: "GID_demo@@@sender" });
      expect(await receiver.ended).toBe(0);
      expect(await run(client, place, ["status", "GID_else@@@x"])).toEqual(["status 403 3 -1"]);
      expect(await run(client, place, ["status", device], { SECRET: "wrong" })).toEqual([
        "status 403 2 -1",
      ]);
    });

    test("applies for tokens, connects, renews, and is told of the revocation", async () => {
      const place = await start();
      expect(await run(client, place, ["token"])).toEqual(client.tokenLines ?? TOKEN_LINES);
    });

    test("does the same over TLS, and knows the service by its certificate", async () => {
      const place = await start();
      await expectHello(place, "tls");
      const strange = join(await tempDir(), "other.pem");
      await writeFile(strange, makeAuthority("another authority").cert);
      const [first] = await run(client, place, ["tls"], { CA_FILE: strange });
      expect(first).not.toBe("connack 0");
    });

    test("does the same over WebSocket, with and without TLS", async (context) => {
      if (!client.websocket) context.skip("its library does not speak it");
      const place = await start();
      await expectHello(place, "websocket");
      await expectHello(place, "wss");
    });

    async function expectHello(place: Place, verb: string): Promise<void> {
      const lines = await run(client, place, [verb]);
      expect(lines[0]).toBe("connack 0");
      expect(lines.at(-1)).toBe(`message GW_DOWN/p2p/${device} 1 hello myself`);
    }
  });
}

const isMessage = (line: string): boolean => line.startsWith("message ");

async function start(): Promise<Place> {
  const dir = await tempDir();
  const authority = makeAuthority();
  const hosts = ["127.0.0.1", "localhost"];
  const { cert, key } = makeCertificate({ name: "service", hosts, issuer: authority });
  const files = { "ca.pem": authority.cert, "cert.pem": cert, "key.pem": key };
  for (const [name, text] of Object.entries({ ...files, "cloud.toml": settingsIn(dir) })) {
    await writeFile(join(dir, name), text, { mode: 0o600 });
  }
  const more = ["mqtts", "ws", "wss"].flatMap((name) => [`--${name}-port`, "auto"]);
  const { ports } = await spawnCloud(dir, more);
  return { ports, caFile: join(dir, "ca.pem") };
}

interface Running {
  readonly lines: string[];
  readonly ended: Promise<number>;
}

async function run(
  client: ForeignClient,
  place: Place,
  words: readonly string[],
  changes: Readonly<Record<string, string>> = {},
): Promise<readonly string[]> {
  const { lines, ended } = spawnClient(client, place, words, changes);
  await ended;
  return lines;
}

function spawnClient(
  client: ForeignClient,
  { ports, caFile }: Place,
  words: readonly string[],
  changes: Readonly<Record<string, string>>,
): Running {
  const [program = "", ...first] = client.command();
  const child: ChildProcess = spawn(program, [...first, ...words], {
    stdio: ["ignore", "pipe", "ignore"],
    env: {
      ...process.env,
      ...{ ACCESS_KEY: "AK", SECRET: "SK-of-the-suite", INSTANCE: "mqtt-local" },
      ...Object.fromEntries(
        Object.entries(ports).map(([name, port]) => [`${name.toUpperCase()}_PORT`, String(port)]),
      ),
      ...{ CA_FILE: caFile, CLIENT_ID: device, ...changes },
    },
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  const lines: string[] = [];
  let rest = "";
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts);
  });
  const ended = once(child, "close").then(([code]) => Number(code));
  return { lines, ended };
}

import { describe, expect, onTestFinished, test } from "vitest";
import type { SessionOptions } from "../../../agent/connection/connection.ts";
import { type Certificate, makeAuthority, makeCertificate } from "../../support/certificates.ts";
import { ScriptedBroker } from "../../support/scripted-broker.ts";
import { waitFor } from "../../support/wait-for.ts";
import { makeSession, never, online } from "./harness.ts";

const authority = makeAuthority();

async function secureBroker(
  certificate: Certificate,
  tls: { requestCert?: boolean; ca?: string } = {},
): Promise<ScriptedBroker> {
  const broker = await ScriptedBroker.start(undefined, { ...certificate, ...tls });
  onTestFinished(() => broker.stop());
  return broker;
}

async function failureOf(
  broker: ScriptedBroker,
  tls: NonNullable<SessionOptions["tls"]>,
): Promise<string> {
  const greeted = () => broker.peers.filter(({ connect }) => connect).length;
  const before = greeted();
  const session = makeSession(`mqtts://127.0.0.1:${broker.port}`, { tls });
  await session.start(never);
  const error = await waitFor(() => session.info().lastError);
  expect(error.code).toBe("tls_failed");
  expect(greeted(), "no CONNECT goes to a peer that is not proven").toBe(before);
  return error.message;
}

describe("mqtts", () => {
  test("connects where the authority and the name are right", async () => {
    const hosts = ["127.0.0.1", "localhost"];
    const broker = await secureBroker(makeCertificate({ name: "s", hosts, issuer: authority }));
    const tls = { ca: authority.cert };
    for (const host of hosts) {
      const session = makeSession(`mqtts://${host}:${broker.port}`, { tls });
      await online(session);
      await session.publish({ topic: "up/a", payload: "x" }, never);
      await session.stop(never);
    }
    expect(broker.peers).toHaveLength(2);
    expect(broker.peer.of("disconnect")).toHaveLength(1);
  });

  test("takes the name from the configuration where one is set", async () => {
    const certificate = makeCertificate({
      name: "s",
      hosts: ["broker.example"],
      issuer: authority,
    });
    const broker = await secureBroker(certificate);
    const url = `mqtts://127.0.0.1:${broker.port}`;
    await online(makeSession(url, { tls: { ca: authority.cert, serverName: "broker.example" } }));
    expect(await failureOf(broker, { ca: authority.cert })).toMatch(/ALTNAME/);
  });

  test("never goes on with a certificate that does not verify", async () => {
    const hosts = ["127.0.0.1"];
    const right = { name: "s", hosts, issuer: authority };
    const day = 86_400_000;
    const ago = (days: number) => new Date(Date.now() - days * day);
    const ca = authority.cert;
    const strange = await secureBroker(makeCertificate(right));
    expect(await failureOf(strange, {})).toMatch(/UNABLE_TO_VERIFY|UNABLE_TO_GET/);
    const self = await secureBroker(makeCertificate({ name: "s", hosts }));
    expect(await failureOf(self, { ca })).toMatch(/SELF_SIGNED/);
    const expired = makeCertificate({ ...right, notBefore: ago(3), notAfter: ago(1) });
    expect(await failureOf(await secureBroker(expired), { ca })).toMatch(/EXPIRED/);
    const early = makeCertificate({ ...right, notBefore: ago(-1), notAfter: ago(-3) });
    expect(await failureOf(await secureBroker(early), { ca })).toMatch(/NOT_YET_VALID/);
  });

  test("a plain port, and a service that closes in the handshake, are failed handshakes", async () => {
    const plain = await ScriptedBroker.start();
    onTestFinished(() => plain.stop());
    expect(await failureOf(plain, { ca: authority.cert })).toMatch(/handshake/);
  });

  test("shows its own certificate where the service asks for one", async () => {
    const server = makeCertificate({ name: "s", hosts: ["127.0.0.1"], issuer: authority });
    const broker = await secureBroker(server, { requestCert: true, ca: authority.cert });
    const own = makeCertificate({ name: "dev-1", issuer: authority });
    const url = `mqtts://127.0.0.1:${broker.port}`;
    await online(makeSession(url, { tls: { ca: authority.cert, ...own } }));
    const without = makeSession(url, { tls: { ca: authority.cert } });
    await without.start(never);
    await waitFor(() => without.info().lastError);
    expect(without.state).not.toBe("online");
  });
});

/**
 * X.509 certificates for tests, made in memory: just enough DER for Node's TLS, so that no test
 * needs a program of the machine or a file that expires.
 */
import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { isIPv4 } from "node:net";

export interface Certificate {
  /** PEM */
  readonly cert: string;
  readonly key: string;
}

export interface CertificateOptions {
  readonly name: string;
  /** DNS names and IPv4 addresses that it is good for. */
  readonly hosts?: readonly string[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly authority?: boolean;
  /** Signs itself without one. */
  readonly issuer?: Authority;
}

export interface Authority extends Certificate {
  readonly name: string;
}

const OID = {
  commonName: [0x55, 4, 3],
  subjectAltName: [0x55, 0x1d, 0x11],
  basicConstraints: [0x55, 0x1d, 0x13],
  ecdsaWithSha256: [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
} as const;
const DAY_MS = 86_400_000;
let serial = 1;

export function makeAuthority(name = "test authority"): Authority {
  return { ...makeCertificate({ name, authority: true }), name };
}

export function makeCertificate(options: CertificateOptions): Certificate {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const signer = options.issuer?.key ?? key;
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const body = toBeSigned(options, privateKey, algorithm);
  const signature = sign("sha256", body, signer);
  const der = sequence(body, algorithm, tlv(0x03, Buffer.from([0]), signature));
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  const cert = ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""];
  return { cert: cert.join("\n"), key };
}

function toBeSigned(options: CertificateOptions, key: KeyObject, algorithm: Buffer): Buffer {
  const { name, issuer, authority = false, hosts = [] } = options;
  const from = options.notBefore ?? new Date(Date.now() - DAY_MS);
  const to = options.notAfter ?? new Date(Date.now() + DAY_MS);
  const names = hosts.map((host) =>
    isIPv4(host)
      ? tlv(0x87, Buffer.from(host.split(".").map(Number)))
      : tlv(0x82, Buffer.from(host)),
  );
  const extensions = [
    extension(
      OID.basicConstraints,
      sequence(...(authority ? [tlv(0x01, Buffer.from([0xff]))] : [])),
    ),
    ...(names.length > 0 ? [extension(OID.subjectAltName, sequence(...names))] : []),
  ];
  return sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, Buffer.from([0x10, serial >> 8, serial++ & 0xff])),
    algorithm,
    distinguishedName(issuer?.name ?? name),
    sequence(generalizedTime(from), generalizedTime(to)),
    distinguishedName(name),
    createPublicKey(key).export({ type: "spki", format: "der" }),
    tlv(0xa3, sequence(...extensions)),
  );
}

function distinguishedName(name: string): Buffer {
  return sequence(tlv(0x31, sequence(oid(OID.commonName), tlv(0x0c, Buffer.from(name)))));
}

function extension(id: readonly number[], value: Buffer): Buffer {
  return sequence(oid(id), tlv(0x04, value));
}

function generalizedTime(date: Date): Buffer {
  return tlv(0x18, Buffer.from(date.toISOString().replace(/[-:T]|\.\d+/g, "")));
}

function oid(bytes: readonly number[]): Buffer {
  return tlv(0x06, Buffer.from(bytes));
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tlv(0x30, ...parts);
}

function tlv(tag: number, ...parts: readonly Buffer[]): Buffer {
  const value = Buffer.concat(parts);
  const { length } = value;
  const head =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), value]);
}

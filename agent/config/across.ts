/** Checks that look at several keys at once, and the values that follow from other keys. */
import { join } from "node:path";
import { limits } from "../core/limits.ts";
import type { Files } from "./files.ts";
import * as forms from "./forms.ts";
import type { Config } from "./keys.ts";
import { fitLanes } from "./lanes.ts";
import type { Report } from "./load.ts";

export function finishConfig(config: Config, report: Report, files: Files): Config {
  checkNames(config, report);
  checkTopicLengths(config, report);
  checkReconnect(config, report);
  checkAuth(config, report);
  checkTlsFiles(config, report, files);
  checkKeyIds(config, report);
  checkRate(config, report);
  const { outbox, plugins, control, state } = config;
  return {
    ...config,
    outbox: { ...outbox, lanes: fitLanes(outbox.lanes, state.quota_mb, report) },
    plugins: { ...plugins, dir: plugins.dir || join(state.dir, "plugins") },
    control: { ...control, dir: control.dir || state.dir },
  };
}

function checkNames({ device, service, topics }: Config, report: Report): void {
  const { client_id } = device;
  if (service.profile === "mqtt") {
    if (!forms.isStandardClientId(client_id)) {
      const expected = "1 to 128 characters without +, #, / and control characters";
      report.wrong(["device.client_id"], `${show(client_id)} does not fit; expected ${expected}`);
    }
    return;
  }
  if (!forms.isLmqClientId(client_id)) {
    const expected =
      "GROUP@@@DEVICE, at most 64 characters, of letters, digits, - and _ (or service.profile = " +
      '"mqtt" for a standard broker)';
    report.wrong(["device.client_id"], `${show(client_id)} does not fit; expected ${expected}`);
  }
  for (const name of ["up", "down"] as const) {
    if (forms.isLmqParentTopic(topics[name])) continue;
    const expected = "one level of letters, digits, - and _ in the profile lmq";
    report.wrong([`topics.${name}`], `${show(topics[name])} does not fit; expected ${expected}`);
  }
}

/** The longest topics that the agent itself uses, with the keys that make them long. */
function ownTopics({ device, service, topics }: Config) {
  const name = forms.deviceOf(device.client_id, service.profile);
  return [
    { topic: `${topics.up}/health/${name}`, parent: "topics.up" },
    { topic: `${topics.up}/alarm/${name}`, parent: "topics.up" },
    { topic: `${topics.up}/gap/${name}`, parent: "topics.up" },
    { topic: `${topics.down}/p2p/${device.client_id}`, parent: "topics.down" },
  ] as const;
}

function checkTopicLengths(config: Config, report: Report): void {
  const { topic_max } = config.service;
  for (const { topic, parent } of ownTopics(config)) {
    const keys = `device.client_id or ${parent}`;
    if (topic.length > topic_max) {
      report.wrong(
        ["device.client_id", parent, "service.topic_max"],
        `the agent's topic ${topic} has ${topic.length} characters, and service.topic_max is ` +
          `${topic_max}; expected a shorter ${keys}`,
      );
    } else if (topic.length > limits.topicWarnChars) {
      report.warn(
        parent,
        `the agent's topic ${topic} has ${topic.length} characters; services may refuse more than ` +
          `${limits.topicWarnChars}: shorten ${keys}`,
      );
    }
  }
}

function checkReconnect({ service }: Config, report: Report): void {
  const { max_ms, ...others } = service.reconnect;
  for (const [name, value] of Object.entries(others)) {
    if (value <= max_ms) continue;
    report.wrong(
      [`service.reconnect.${name}`, "service.reconnect.max_ms"],
      `it is ${value}; expected at most service.reconnect.max_ms, which is ${max_ms}`,
    );
  }
}

function checkAuth({ auth, tls, service }: Config, report: Report): void {
  const need = (key: string, value: unknown, why: string): void => {
    const isEmpty = value === "" || value === undefined || (Array.isArray(value) && !value.length);
    if (isEmpty) report.wrong([key, "auth.mode"], `${key} is not set; expected it for ${why}`);
  };
  const mode = `auth.mode = "${auth.mode}"`;
  if (auth.mode === "signature") {
    need("auth.access_key", auth.access_key, mode);
    need("auth.secret", auth.secret, `${mode} (or auth.secret_file)`);
  }
  if (auth.mode === "token") need("auth.access_key", auth.access_key, mode);
  if (auth.mode === "token" || auth.mode === "jwt") {
    const key = { http: "url", file: "file", command: "command" } as const;
    const name = key[auth.source];
    need(`auth.${name}`, auth[name], `${mode} with auth.source = "${auth.source}"`);
  }
  if (auth.mode !== "mtls") return;
  need("tls.cert_file", tls.cert_file, mode);
  need("tls.key_file", tls.key_file, mode);
  const plain = service.endpoints.find((endpoint) => !/^(mqtts|wss):/.test(endpoint));
  if (plain === undefined) return;
  const message = `${plain} has no TLS; expected mqtts:// or wss:// for ${mode}`;
  report.wrong(["service.endpoints", "auth.mode"], message);
}

function checkTlsFiles({ auth, tls }: Config, report: Report, files: Files): void {
  checkPair("tls.cert_file", tls.cert_file, "tls.key_file", tls.key_file, report);
  const [cert, key] = ["auth.source_cert_file", "auth.source_key_file"] as const;
  checkPair(cert, auth.source_cert_file, key, auth.source_key_file, report);
  const named = {
    "tls.ca_file": tls.ca_file,
    "tls.cert_file": tls.cert_file,
    "tls.key_file": tls.key_file,
    [cert]: auth.source_cert_file,
    [key]: auth.source_key_file,
    "auth.source_ca_file": auth.source_ca_file,
  };
  for (const [name, path] of Object.entries(named)) {
    if (path === "") continue;
    if (!canBeRead(path, files)) {
      report.wrong([name], `there is no file ${path} that can be read; expected a PEM file`);
    } else if (name.endsWith("key_file")) report.exposed(name, path);
  }
}

function canBeRead(path: string, files: Files): boolean {
  try {
    return files.read(path) !== undefined;
  } catch {
    return false;
  }
}

function checkPair(
  certName: string,
  cert: string,
  keyName: string,
  key: string,
  report: Report,
): void {
  if ((cert === "") === (key === "")) return;
  const [given, missing] = cert === "" ? [keyName, certName] : [certName, keyName];
  report.wrong([given, missing], `${missing} is not set; expected both or neither`);
}

function checkKeyIds({ commands }: Config, report: Report): void {
  const seen = new Set<string>();
  for (const [i, { kid }] of commands.keys.entries()) {
    const key = `commands.keys.${i}.kid`;
    if (seen.has(kid)) report.wrong([key], `${show(kid)} is there twice; expected one key a kid`);
    seen.add(kid);
  }
}

/** lmq-protocol 1.3: over 20 messages a second the service throttles, loses and disconnects. */
function checkRate({ service, outbox }: Config, report: Report): void {
  const isRemote = service.endpoints.some((endpoint) => !forms.isLoopback(endpoint));
  const isAdvised = outbox.max_rate >= 1 && outbox.max_rate <= 20;
  if (service.profile !== "lmq" || !isRemote || isAdvised) return;
  const is = outbox.max_rate === 0 ? "there is no limit" : `it is ${outbox.max_rate}`;
  report.warn("outbox.max_rate", `${is}; the service advises 1 to 20 messages a second`);
}

function show(value: string): string {
  return JSON.stringify(value.slice(0, 200));
}

/**
 * The forms that single values must have. Each check gives undefined for a right value, else what
 * was expected, so that a message can say it.
 */

const ENDPOINT_SCHEMES = ["mqtt:", "mqtts:", "ws:", "wss:"];

export function checkEndpoints(endpoints: readonly string[]): string | undefined {
  if (endpoints.length === 0) return "at least one endpoint";
  if (endpoints.length > 16) return "at most 16 endpoints";
  for (const endpoint of endpoints) {
    const expected = checkEndpoint(endpoint);
    if (expected) return expected;
  }
  return undefined;
}

function checkEndpoint(endpoint: string): string | undefined {
  const expected = checkUrl(endpoint, ENDPOINT_SCHEMES);
  if (expected) return expected;
  const url = new URL(endpoint);
  const isWebSocket = url.protocol.startsWith("ws");
  if (!isWebSocket && (url.pathname.length > 1 || url.search !== "")) {
    return `an endpoint without a path behind the port, not ${endpoint}`;
  }
  return undefined;
}

/** An absolute URL of one of `schemes`, with a host, without credentials or fragment. */
export function checkUrl(value: string, schemes: readonly string[]): string | undefined {
  const names = schemes.map((scheme) => `${scheme}//`).join(", ");
  const form = `a URL like ${schemes[0]}//HOST:PORT (${names})`;
  const url = URL.parse(value);
  if (!url || /\s/.test(value) || !schemes.includes(url.protocol) || url.hostname === "")
    return form;
  if (url.username !== "" || url.password !== "") return "a URL without a user name or password";
  if (url.port === "0") return "a port from 1 to 65535";
  return url.hash === "" ? undefined : "a URL without #";
}

/** True for a URL whose host never leaves this machine. */
export function isLoopback(endpoint: string): boolean {
  const host = URL.parse(endpoint)?.hostname ?? "";
  return host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Forms that hold in every profile; `checkAcross` knows the stricter one of lmq. */
export function checkParentTopic(topic: string): string | undefined {
  if (topic === "") return "a topic that is not empty";
  if (/[+#\s]/.test(topic) || !/^[\x21-\x7e]*$/.test(topic)) {
    return "a topic without wildcards, spaces and control characters";
  }
  if (topic.startsWith("$")) return "a topic that does not start with $";
  return topic.split("/").includes("") ? "a topic without empty levels" : undefined;
}

/** lmq-protocol 1.1: one level of `0-9 A-Z a-z - _`. */
export function isLmqParentTopic(topic: string): boolean {
  return /^[\w-]+$/.test(topic);
}

/** lmq-protocol 1.1: `<GroupID>@@@<DeviceID>`, split at the first `@@@`. */
export function isLmqClientId(text: string): boolean {
  return text.length <= 64 && /^[\w-]+@@@[\w-]+$/.test(text);
}

/** One level of a topic, because the device is addressed by it [MQTT-4.7.1-1]. */
export function isStandardClientId(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
  return /^[^\u0000-\u001f\u007f-\u009f+#/]{1,128}$/.test(text) && text.isWellFormed();
}

/** The part of a client id that names the device in topics. */
export function deviceOf(clientId: string, profile: "lmq" | "mqtt"): string {
  const at = clientId.indexOf("@@@");
  return profile === "lmq" && at >= 0 ? clientId.slice(at + 3) : clientId;
}

/** Base64 or base64url, padded or not, of the 32 bytes of an Ed25519 key. */
export function checkPublicKey(value: string): string | undefined {
  const wellFormed = /^([\w-]+|[A-Za-z0-9+/]+)={0,2}$/.test(value);
  const bytes = wellFormed ? Buffer.from(value, "base64") : Buffer.alloc(0);
  return bytes.length === 32 ? undefined : "base64 or base64url of the 32 bytes of an Ed25519 key";
}

export function checkReplyTo(filters: readonly string[]): string | undefined {
  for (const filter of filters) {
    const levels = filter.split("/");
    const first = levels[0] ?? "";
    if (/[+#]/.test(first) || first.startsWith("$") || levels.includes("")) {
      return `a topic filter whose first level is {up}, {down} or literal, not ${filter}`;
    }
    const bad = levels.some(
      (l, i) => /[+#]/.test(l) && l !== "+" && (l !== "#" || i < levels.length - 1),
    );
    if (bad) return `+ or # as a whole level, # only as the last one, not ${filter}`;
  }
  return undefined;
}

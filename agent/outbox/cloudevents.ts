/**
 * A payload as a CloudEvents 1.0 event in structured JSON (surface 4). The form follows the bytes:
 * JSON goes into `data` as it was written, so that no number is rounded and no member lost; other
 * UTF-8 text becomes a string; anything else `data_base64`. `id` and `source` together are the
 * same for every duplicate of a message, so that receivers can drop it.
 */
export interface CloudEvent {
  readonly id: string;
  /** A URI reference; stable for the device. */
  readonly source: string;
  readonly type: string;
  readonly subject: string;
  /** Unix milliseconds; undefined while the clock is not trusted. */
  readonly timeMs: number | undefined;
  readonly payload: Uint8Array;
}

export function encodeCloudEvent(event: CloudEvent): Uint8Array {
  const { id, source, type, subject, timeMs, payload } = event;
  const time = timeMs === undefined ? undefined : new Date(timeMs).toISOString();
  const attributes = JSON.stringify({ specversion: "1.0", id, source, type, subject, time });
  const data = dataMembers(payload);
  return Buffer.from(data === "" ? attributes : `${attributes.slice(0, -1)},${data}}`);
}

/** `/<client id>`, with what a URI may not have escaped. */
export function cloudEventSource(clientId: string): string {
  return `/${encodeURIComponent(clientId).replaceAll("%40", "@")}`;
}

function dataMembers(payload: Uint8Array): string {
  if (payload.length === 0) return "";
  const text = textOf(payload);
  if (text === undefined) {
    const base64 = Buffer.from(payload).toString("base64");
    return `"datacontenttype":"application/octet-stream","data_base64":"${base64}"`;
  }
  if (isJson(text)) return `"datacontenttype":"application/json","data":${text}`;
  return `"datacontenttype":"text/plain","data":${JSON.stringify(text)}`;
}

/** Undefined for what is not UTF-8; a byte order mark is kept. */
function textOf(payload: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(payload);
  } catch {
    return undefined;
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

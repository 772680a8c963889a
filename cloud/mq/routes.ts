/** The MQ side over HTTP: surface, section 6. Errors are the object of the agent's local API. */
import type { Clock } from "../../agent/core/clock.ts";
import { isHoldfastError } from "../../agent/core/errors.ts";
import {
  type AccessLimits,
  type Directory,
  decideMq,
  type MqAction,
  type MqGrant,
} from "../access/access.ts";
import type { HttpAnswer, HttpRequest, Route } from "../http/http.ts";
import type { Delivered, Mq } from "./mq.ts";
import { type OutgoingMessage, planProduce, readProperties } from "./produce.ts";
import { isTag, parseTags } from "./tags.ts";

export interface MqRouteDeps {
  readonly mq: Mq;
  readonly directory: () => Directory;
  readonly limits: AccessLimits & { readonly payloadBytes: number };
  readonly clock: Clock;
  /** To the MQTT side; `done` when it is safe. */
  readonly publish: (message: OutgoingMessage, done: (error?: Error) => void) => void;
}

const MAX_MESSAGES = 32;
/** A longer wait ends here, with nothing. */
const MAX_WAIT_MS = 60_000;
const MAX_IDS = 1_000;

type Handler = (grant: MqGrant, request: HttpRequest) => Promise<HttpAnswer>;

export function mqRoutes(deps: MqRouteDeps): readonly Route[] {
  const route = (
    method: "GET" | "POST",
    path: string,
    action: MqAction,
    handler: Handler,
  ): Route => ({
    method,
    path,
    wrongMethod: refuse(400, "request_invalid", "This path does not take this method."),
    handle: async (request) => {
      const { parameters } = request;
      if (!parameters) return refuse(400, "request_invalid", "The query cannot be decoded.");
      const nowMs = deps.clock.wallMs();
      const decision = decideMq(deps.directory(), deps.limits, { action, parameters, nowMs });
      if (!decision.allow) return refuse(decision.http, decision.code, decision.message);
      return await answered(handler(decision, request));
    },
  });
  return [
    route("POST", "/mq/messages", "produce", (grant, request) => produce(deps, grant, request)),
    route("GET", "/mq/messages", "consume", (grant, request) => consume(deps, grant, request)),
    route("POST", "/mq/ack", "confirm", (grant) => confirm(deps, grant)),
  ];
}

async function produce(
  deps: MqRouteDeps,
  { topic, given }: MqGrant,
  { headers, body }: HttpRequest,
): Promise<HttpAnswer> {
  const tag = given["tag"] ?? "";
  if (tag !== "" && !isTag(tag)) {
    return refuse(
      400,
      "request_invalid",
      "A tag has 1 to 64 letters, digits, dots, colons, - and _.",
    );
  }
  if (body.length > deps.limits.payloadBytes) {
    const message = `A payload has at most ${deps.limits.payloadBytes} bytes.`;
    return refuse(400, "payload_too_large", message);
  }
  const properties = readProperties(headers);
  const outgoing = planProduce({ topic, properties, payload: body }, deps.limits.topicMax);
  const kept = new Promise<string>((resolve, reject) => {
    deps.mq.produce(topic, { tag, properties, body }, (error, id) =>
      error ? reject(error) : resolve(id),
    );
  });
  const routed = new Promise<void>((resolve, reject) => {
    deps.publish(outgoing, (error) => (error ? reject(error) : resolve()));
  });
  const [id] = await Promise.all([kept, routed]);
  return { status: 200, body: { id } };
}

async function consume(
  deps: MqRouteDeps,
  { topic, given }: MqGrant,
  { signal }: HttpRequest,
): Promise<HttpAnswer> {
  const filter = parseTags(given["tags"] ?? "");
  const max = readNumber(given["max"], MAX_MESSAGES);
  const waitMs = readNumber(given["wait_ms"], 0);
  if (!filter) return refuse(400, "request_invalid", "The tags are not of the form A||B.");
  if (max === undefined || max < 1 || max > MAX_MESSAGES) {
    return refuse(400, "request_invalid", `max is a number from 1 to ${MAX_MESSAGES}.`);
  }
  if (waitMs === undefined) {
    return refuse(400, "request_invalid", "wait_ms is a number of milliseconds.");
  }
  const group = given["group"] ?? "";
  const request = { topic, group, filter, max, waitMs: Math.min(waitMs, MAX_WAIT_MS) };
  const messages = await deps.mq.consume(request, signal);
  return { status: 200, body: { messages: messages.map((one) => toJson(topic, one)) } };
}

async function confirm(deps: MqRouteDeps, { topic, given }: MqGrant): Promise<HttpAnswer> {
  const ids = (given["ids"] ?? "").split(",");
  if (ids.length > MAX_IDS) {
    return refuse(400, "request_invalid", `At most ${MAX_IDS} ids are confirmed at a time.`);
  }
  const acked = await deps.mq.confirm({ topic, group: given["group"] ?? "", ids });
  return { status: 200, body: { acked } };
}

function toJson(topic: string, { id, tag, properties, body, bornAt }: Delivered) {
  const bodyBase64 = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("base64");
  return { id, topic, tag, properties: { ...properties }, bodyBase64, bornTime: bornAt };
}

/** Undefined for what is no whole number of at most nine digits. */
function readNumber(text: string | undefined, absent: number): number | undefined {
  if (text === undefined) return absent;
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/** What was thrown as the answer that says so; broken assumptions go on. */
async function answered(work: Promise<HttpAnswer>): Promise<HttpAnswer> {
  try {
    return await work;
  } catch (error) {
    if (!isHoldfastError(error)) throw error;
    switch (error.code) {
      case "request_invalid":
      case "topic_invalid":
      case "topic_too_long":
        return refuse(400, error.code, error.message);
      case "too_many":
        return refuse(403, error.code, error.message);
      case "not_found":
        return refuse(404, error.code, error.message);
      case "store_not_writable":
      case "store_unreadable":
        return refuse(503, error.code, "The disk of the service does not take or give back data.");
      default:
        throw error;
    }
  }
}

function refuse(status: number, code: string, message: string): HttpAnswer {
  return { status, body: { error: { code, message } } };
}

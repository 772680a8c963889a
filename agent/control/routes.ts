/** The requests of the local API (surface 4) as a table, and the way through it. */
import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import { putBatch } from "./batch.ts";
import { type Answer, type Exchange, type Handler, jsonAnswer } from "./bounded-server.ts";
import { metricsOf } from "./metrics.ts";
import { openMetricsType, renderOpenMetrics } from "./openmetrics.ts";
import { type ControlPorts, type ListName, listNames, type PageRequest } from "./ports.ts";
import { messageFromQuery } from "./producer-message.ts";

export interface RouteDeps {
  readonly ports: ControlPorts;
  /** Parent topic of all that producers send. */
  readonly up: string;
  /** Told of every error of a line that is not an answer we meant. */
  readonly failed: (error: unknown) => void;
}

interface Route {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string | RegExp;
  /** Also on the producers' socket. */
  readonly producers: boolean;
  answer(exchange: Exchange, deps: RouteDeps): Promise<Answer>;
}

const DEFAULT_PAGE = 100;
const LARGEST_PAGE = 1_000;
const commandPath = /^\/v1\/commands\/([^/]{1,300})$/;
const parkedPath = /^\/v1\/quarantine(?:\/([^/:]{1,100}))?$/;
const retryPath = /^\/v1\/quarantine(?:\/([^/:]{1,100}))?:retry$/;

const routes: readonly Route[] = [
  { method: "POST", path: "/v1/messages", producers: true, answer: postMessage },
  { method: "POST", path: "/v1/messages:batch", producers: true, answer: postBatch },
  { method: "GET", path: "/healthz", producers: true, answer: getHealth },
  { method: "GET", path: "/v1/status", producers: false, answer: getStatus },
  { method: "GET", path: "/metrics", producers: false, answer: getMetrics },
  { method: "GET", path: commandPath, producers: false, answer: getCommand },
  { method: "POST", path: retryPath, producers: false, answer: retryParked },
  { method: "DELETE", path: parkedPath, producers: false, answer: dropParked },
  ...listNames.map((name) => ({
    method: "GET" as const,
    path: `/v1/${name}`,
    producers: false,
    answer: (exchange: Exchange, deps: RouteDeps) => getList(name, exchange, deps),
  })),
];

export function router(socket: "operator" | "producer", deps: RouteDeps): Handler {
  return async (exchange) => {
    const here = routes.filter(({ path }) => matches(path, exchange.path));
    if (here.length === 0) {
      throw new HoldfastError("not_found", `There is no ${exchange.path.slice(0, 100)} here.`);
    }
    const route = here.find(({ method }) => method === exchange.method);
    if (!route) {
      const allowed = here.map(({ method }) => method).join(", ");
      return notAllowed(allowed);
    }
    if (socket === "producer" && !route.producers) {
      throw new HoldfastError("forbidden", "This socket takes messages only; use holdfast.sock.");
    }
    return route.answer(exchange, deps);
  };
}

function matches(path: string | RegExp, given: string): boolean {
  return typeof path === "string" ? path === given : path.test(given);
}

function notAllowed(allowed: string): Answer {
  const message = `This address takes ${allowed} only.`;
  return {
    ...jsonAnswer({ error: { code: "request_invalid", message } }, 405),
    headers: { allow: allowed },
  };
}

async function postMessage(exchange: Exchange, { ports, up }: RouteDeps): Promise<Answer> {
  const payload = await exchange.body(limits.payloadBytes);
  const { id, seq, safe } = await ports.put(messageFromQuery(up, exchange.query, payload));
  return jsonAnswer({ id, seq, safe });
}

async function postBatch(exchange: Exchange, { ports, up, failed }: RouteDeps): Promise<Answer> {
  const body = await exchange.body(limits.localApiBatchBytes);
  return jsonAnswer(await putBatch(up, body, (message) => ports.put(message), failed));
}

async function getHealth(_exchange: Exchange, { ports }: RouteDeps): Promise<Answer> {
  const { ok, reasons } = ports.health();
  return jsonAnswer({ status: ok ? "ok" : "unhealthy", reasons }, ok ? 200 : 503);
}

async function getStatus(_exchange: Exchange, { ports }: RouteDeps): Promise<Answer> {
  return jsonAnswer(await ports.status());
}

async function getMetrics(_exchange: Exchange, { ports }: RouteDeps): Promise<Answer> {
  const families = [...metricsOf(await ports.status()), ...(ports.metrics?.() ?? [])];
  return { status: 200, type: openMetricsType, text: renderOpenMetrics(families) };
}

async function getCommand({ path }: Exchange, { ports }: RouteDeps): Promise<Answer> {
  const id = commandPath.exec(path)?.[1] ?? "";
  const command = await ports.command?.(id);
  if (!command) throw new HoldfastError("not_found", `No command ${id} is in the journal.`);
  return jsonAnswer(command);
}

async function retryParked({ path }: Exchange, { ports }: RouteDeps): Promise<Answer> {
  const id = retryPath.exec(path)?.[1];
  return jsonAnswer({ retried: foundIn(id, ports.quarantine?.retry(id) ?? 0) });
}

async function dropParked({ path }: Exchange, { ports }: RouteDeps): Promise<Answer> {
  const id = parkedPath.exec(path)?.[1];
  return jsonAnswer({ dropped: foundIn(id, (await ports.quarantine?.drop(id)) ?? 0) });
}

function foundIn(id: string | undefined, count: number): number {
  if (id === undefined || count > 0) return count;
  throw new HoldfastError("not_found", `No message ${id} is in quarantine.`);
}

async function getList(name: ListName, exchange: Exchange, deps: RouteDeps): Promise<Answer> {
  const list = deps.ports.lists[name];
  const page = pageRequest(exchange.query);
  const { items, next } = list ? await list(page) : { items: [], next: null };
  return jsonAnswer({ items, next });
}

function pageRequest(query: ReadonlyMap<string, string>): PageRequest {
  for (const name of query.keys()) {
    if (name === "cursor" || name === "limit") continue;
    throw new HoldfastError("request_invalid", "A list takes `cursor` and `limit` only.");
  }
  const given = query.get("limit") ?? String(DEFAULT_PAGE);
  const limit = /^\d{1,4}$/.test(given) ? Number(given) : 0;
  if (limit < 1 || limit > LARGEST_PAGE) {
    throw new HoldfastError("request_invalid", `\`limit\` is a number from 1 to ${LARGEST_PAGE}.`);
  }
  return { cursor: query.get("cursor"), limit };
}

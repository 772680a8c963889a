/**
 * The presence notices of lmq-protocol 7.3, read from the MQ side of the service and judged
 * (presence-judge.ts). What was read is kept in `presence.json` of the state folder and confirmed
 * only when it is there, so a notice may be read twice and is never lost in between.
 *
 * - Each state folder is a consumer group of its own, with a random name: two machines, and two
 *   commanders on one, each get every notice.
 * - One process reads at a time; another one takes what the file says.
 * - The service keeps notices for three days. What was known of a group that was not read for two
 *   is forgotten first: in between, the end of a connection may have come and gone.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../agent/core/clock.ts";
import { describeError, HoldfastError, isHoldfastError } from "../../agent/core/errors.ts";
import { isJsonObject, type JsonObject, parseJson } from "../../agent/core/json.ts";
import type { Logger } from "../../agent/core/log.ts";
import { type Random, ulid } from "../../agent/core/random.ts";
import { parseClientId } from "../../agent/protocol/client-id.ts";
import { makeHttpSignature } from "../../agent/protocol/http-signature.ts";
import { replaceFile } from "./durable-file.ts";
import { tryLock } from "./lock-file.ts";
import type { Account, Presence } from "./presence.ts";
import { PresenceJudge, readPresenceEvent } from "./presence-judge.ts";
import type { ProcessTable } from "./process-identity.ts";
import { askJson } from "./service-json.ts";

const DAY_MS = 86_400_000;
const FRESH_MS = 2 * DAY_MS;
/** No notice is older than this when it comes: the retention, with as much again to be sure. */
const TOMBSTONE_MS = 6 * DAY_MS;
const CLIENTS = 100_000;
const BATCH = 32;
/** Batches of one group that one call reads; the rest is for the next call. */
const BATCHES = 400;
/** What somebody else produced on the topic stays where it is. */
const TAGS = "connect||disconnect||tcpclean";
const FILE_BOUNDS = { maxBytes: 134_217_728, maxDepth: 8 };

interface Known {
  readonly consumer: string;
  /** When each group was last read to its end, Unix milliseconds. */
  readonly readAt: Map<string, number>;
  readonly judge: PresenceJudge;
}

export interface NoticeDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly processes: ProcessTable;
}

export class Notices {
  readonly #dir: string;
  readonly #account: Account;
  readonly #deps: NoticeDeps;

  constructor(options: { readonly stateDir: string; readonly account: Account }, deps: NoticeDeps) {
    this.#dir = options.stateDir;
    this.#account = options.account;
    this.#deps = deps;
  }

  /** What the notices say of these devices; those of which nothing was heard are left out. */
  async judge(devices: readonly string[], signal: AbortSignal): Promise<readonly Presence[]> {
    const groups = new Set(devices.map((device) => parseClientId(device, "lmq").group ?? ""));
    const known = await this.#refresh([...groups], signal);
    return devices.flatMap((device) => {
      const found = known.judge.judge(device);
      if (!found) return [];
      const { online, connections } = found;
      return [{ device, online, connections, source: "notices" as const }];
    });
  }

  async #refresh(groups: readonly string[], signal: AbortSignal): Promise<Known> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const attempt = await tryLock(join(this.#dir, "presence.lock"), this.#deps);
    const known = await this.#load();
    if (!attempt.taken) return known;
    try {
      for (const group of groups) await this.#read(group, known, signal);
      return known;
    } finally {
      await attempt.lock.release();
    }
  }

  /** A group without a topic, or a service without an MQ side, has no notices: that is no error. */
  async #read(group: string, known: Known, signal: AbortSignal): Promise<void> {
    const nowMs = this.#deps.clock.wallMs();
    const ageMs = nowMs - (known.readAt.get(group) ?? Number.NEGATIVE_INFINITY);
    if (ageMs < 0 || ageMs > FRESH_MS) known.judge.forget(`${group}@@@`);
    known.judge.prune(nowMs - TOMBSTONE_MS);
    const where = { topic: `${group}_MQTT`, group: known.consumer };
    try {
      for (let batch = 0; batch < BATCHES; batch++) {
        const parameters = { ...where, tags: TAGS, max: String(BATCH) };
        const answer = await this.#ask("GET", "/mq/messages", parameters, signal);
        const ids = readMessages(answer, known.judge);
        if (ids.length === 0) {
          known.readAt.set(group, nowMs);
          break;
        }
        await this.#save(known);
        await this.#ask("POST", "/mq/ack", { ...where, ids: ids.join(",") }, signal);
      }
      await this.#save(known);
    } catch (error) {
      if (signal.aborted) throw error;
      this.#deps.log.debug("no notices", { group, error: describeError(error) });
    }
  }

  async #ask(
    method: "GET" | "POST",
    path: string,
    parameters: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<JsonObject> {
    const { accessKey, instanceId, http, secret } = this.#account;
    const { clock } = this.#deps;
    const signed = { accessKey, instanceId, timestamp: String(clock.wallMs()), ...parameters };
    const all = { ...signed, signature: makeHttpSignature(secret(), signed) };
    if (method === "GET")
      return askJson({ http, path, method, parameters: all }, { clock, signal });
    // The MQ side takes its parameters in the query, also those of a POST.
    const target = `${path}?${new URLSearchParams(all).toString()}`;
    return askJson({ http, path: target, method, parameters: {} }, { clock, signal });
  }

  async #load(): Promise<Known> {
    const judge = new PresenceJudge({ clients: CLIENTS });
    try {
      const value = parseJson(await readFile(this.#file), FILE_BOUNDS);
      const { consumer, readAt, clients } = isJsonObject(value) ? value : {};
      if (typeof consumer === "string" && isJsonObject(readAt) && judge.load(clients)) {
        const times = Object.entries(readAt).filter(([, time]) => typeof time === "number");
        return { consumer, readAt: new Map(times as [string, number][]), judge };
      }
    } catch (error) {
      // Nothing was read yet; or what cannot be read is read again, under another name.
      if (isHoldfastError(error) && error.code !== "json_invalid") throw error;
    }
    const { clock, random } = this.#deps;
    return { consumer: `presence-${ulid(clock.wallMs(), random)}`, readAt: new Map(), judge };
  }

  async #save({ consumer, readAt, judge }: Known): Promise<void> {
    const value = { consumer, readAt: Object.fromEntries(readAt), clients: judge.save() };
    await replaceFile(this.#file, JSON.stringify(value));
  }

  get #file(): string {
    return join(this.#dir, "presence.json");
  }
}

/** The ids of the messages; a body that is no notice is passed over. */
function readMessages(answer: JsonObject, judge: PresenceJudge): readonly string[] {
  const { messages } = answer;
  if (!Array.isArray(messages)) {
    throw new HoldfastError("protocol_error", "The service has no MQ side, or no such topic.");
  }
  return messages.flatMap((message) => {
    if (!isJsonObject(message) || typeof message["id"] !== "string") return [];
    const body = typeof message["bodyBase64"] === "string" ? message["bodyBase64"] : "";
    try {
      const event = readPresenceEvent(
        parseJson(Buffer.from(body, "base64"), { maxBytes: 4_096, maxDepth: 4 }),
      );
      if (event) judge.add(event);
    } catch (error) {
      if (!isHoldfastError(error, "json_invalid")) throw error;
    }
    return [message["id"]];
  });
}

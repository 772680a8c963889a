/** The acts of a commander; operator.ts says what they promise. */
import { join } from "node:path";
import type { Clock } from "../../agent/core/clock.ts";
import { HoldfastError, isHoldfastError } from "../../agent/core/errors.ts";
import type { JsonObject } from "../../agent/core/json.ts";
import type { Logger } from "../../agent/core/log.ts";
import { type Random, ulid } from "../../agent/core/random.ts";
import { makeClientId, type Profile, parseClientId } from "../../agent/protocol/client-id.ts";
import { encodeCommand } from "../../agent/protocol/envelope.ts";
import { checkPublishTopic, makeP2pTopic } from "../../agent/protocol/topics.ts";
import { Conversation } from "./conversation.ts";
import type { Link } from "./link.ts";
import { Notices } from "./notices.ts";
import { type Account, type Presence, queryPresence, unknownPresence } from "./presence.ts";
import type { ProcessTable } from "./process-identity.ts";
import type { Run } from "./run.ts";
import { RunStore } from "./run-store.ts";
import { type Slot, Slots, slotClientId } from "./slots.ts";

/** How long a service may take to answer a connect before the commander gives up. */
const CONNECT_MS = 15_000;
/** How long the goodbye to the service may take. */
const CLOSE_MS = 2_000;
/** How often a run is looked at whose slot another process holds. */
const LOOK_AGAIN_MS = 200;

export interface CommanderOptions {
  /** The commander's own client id, without the number of a slot. */
  readonly clientId: string;
  readonly profile: Profile;
  /** Parent topic of commands and replies. */
  readonly down: string;
  readonly topicMax: number;
  /** Where runs and locks are kept. */
  readonly stateDir: string;
  readonly account?: Account;
}

export interface CommanderDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly processes: ProcessTable;
  /** A connection under this client id, always with a persistent session. */
  readonly connect: (clientId: string) => Link;
}

export interface SendRequest {
  /** A whole client id, or its device part: then the group is the commander's own. */
  readonly device: string;
  /** `<plugin>.<verb>` */
  readonly command: string;
  readonly params?: JsonObject;
  /** How long the device may take to get it: later it is answered with `expired`. */
  readonly lifetimeMs: number;
  /** False: be content when the service has it. */
  readonly wait: boolean;
  /** Ask the device to say when it has accepted and started the command. */
  readonly progress: boolean;
}

export interface WaitOptions {
  /** From the start of the call to its end, connecting included. */
  readonly timeoutMs: number;
  /** Told of each step of the run, from `recorded` on. */
  readonly onChange?: (run: Run) => void;
}

export interface Outcome {
  /** As it was at the end; with `final` when the reply came in time. */
  readonly run: Run;
  /** Answers to other runs that came meanwhile. */
  readonly collected: number;
}

export class Commander {
  readonly runs: RunStore;
  readonly #options: CommanderOptions;
  readonly #deps: CommanderDeps;
  readonly #slots: Slots;

  constructor(options: CommanderOptions, deps: CommanderDeps) {
    this.#options = options;
    this.#deps = deps;
    this.runs = new RunStore({ dir: join(options.stateDir, "runs") }, deps);
    this.#slots = new Slots(
      { dir: join(options.stateDir, "slots"), clientId: options.clientId },
      deps,
    );
  }

  /**
   * Sends a command and waits for its final reply, as long as the timeout allows. Throws before
   * anything is recorded: `client_id_invalid`, `envelope_invalid`, `topic_too_long`, `too_many`,
   * `unreachable`, `credentials_refused`, `store_not_writable`; afterwards `rejected_by_service`.
   */
  async send(request: SendRequest, wait: WaitOptions, signal: AbortSignal): Promise<Outcome> {
    const device = this.deviceId(request.device);
    // Whatever is wrong with it is said before a connection is made.
    const draft = this.#draft(device, request, slotClientId(this.#options.clientId, 1));
    checkPublishTopic(draft.topic, this.#options.topicMax);
    return this.#call(wait.timeoutMs, signal, async (inTime) => {
      await using slot = await this.#slots.take(inTime);
      // Awaited here: the slot is given back when this scope ends.
      return await this.#converse(slot, inTime, async (conversation) => {
        const run = this.#draft(device, request, slot.clientId, slot.number);
        await this.runs.create(run);
        wait.onChange?.(run);
        return request.wait
          ? conversation.converse(run, { ...wait, publish: true }, inTime)
          : conversation.deliver(run, inTime);
      });
    });
  }

  /**
   * Waits for the final reply of a run that was sent before, by this process or another. Throws
   * `not_found`, `config_invalid` when another client id sent it, and what a connection may throw.
   */
  wait(id: string, wait: WaitOptions, signal: AbortSignal): Promise<Outcome> {
    return this.#takeUp(id, { ...wait, publish: false }, signal);
  }

  /**
   * Sends the same bytes once more and waits, as `wait` does: for a run whose process ended before
   * the service had it. Throws `command_expired` when the device would refuse it by now.
   */
  async resume(id: string, wait: WaitOptions, signal: AbortSignal): Promise<Outcome> {
    const run = await this.#mustGet(id);
    if (!run.final && this.#deps.clock.wallMs() > run.expiresAt) {
      throw new HoldfastError("command_expired", `Run ${id} is too old to be sent again.`);
    }
    return this.#takeUp(id, { ...wait, publish: true }, signal);
  }

  /**
   * One entry for each device; null where nobody knows. The status query is asked, and the notices
   * where it does not know or is not there. Throws as `queryPresence` does.
   */
  async presence(devices: readonly string[], signal: AbortSignal): Promise<readonly Presence[]> {
    const ids = devices.map((device) => this.deviceId(device));
    const { account, stateDir, profile } = this.#options;
    const notices = account && profile === "lmq" && new Notices({ stateDir, account }, this.#deps);
    try {
      const found = await queryPresence(ids, account, { clock: this.#deps.clock, signal });
      const unknown = found.filter((one) => one.online === null && !one.error);
      const judged = await noticed(notices, unknown, signal);
      return found.map((one) => judged.get(one.device) ?? one);
    } catch (error) {
      // Editions of the service that have no status query.
      if (!isHoldfastError(error, "protocol_error")) throw error;
      const nobody = ids.map((device) => unknownPresence(device));
      const judged = await noticed(notices, nobody, signal);
      if (judged.size === 0) throw error;
      return nobody.map((one) => judged.get(one.device) ?? one);
    }
  }

  /** The whole client id that a person means; throws `client_id_invalid`. */
  deviceId(given: string): string {
    const { clientId, profile } = this.#options;
    const { group } = parseClientId(clientId, profile);
    if (group === undefined || given.includes("@@@")) return parseClientId(given, profile).text;
    return makeClientId(group, given);
  }

  async #takeUp(
    id: string,
    options: WaitOptions & { readonly publish: boolean },
    signal: AbortSignal,
  ): Promise<Outcome> {
    const run = await this.#mustGet(id);
    if (run.final) return { run, collected: 0 };
    if (run.from !== slotClientId(this.#options.clientId, run.slot)) {
      throw new HoldfastError(
        "config_invalid",
        `Run ${id} was sent by ${run.from}, which is not one of ${this.#options.clientId}'s client ` +
          "ids: its reply does not come here. Use the configuration that sent it.",
      );
    }
    return this.#call(options.timeoutMs, signal, async (inTime) => {
      const held = await this.#slotOf(run, inTime);
      if (!held.slot) return { run: held.run, collected: 0 };
      await using slot = held.slot;
      // Awaited here: the slot is given back when this scope ends.
      return await this.#converse(slot, inTime, (conversation) =>
        conversation.converse(held.run, options, inTime),
      );
    });
  }

  /** The slot of a run; while another process holds it, that one records the answer to the run. */
  async #slotOf(run: Run, inTime: AbortSignal): Promise<{ run: Run; slot: Slot | undefined }> {
    for (let latest = run; ; latest = (await this.runs.get(run.id)) ?? latest) {
      if (latest.final || inTime.aborted) return { run: latest, slot: undefined };
      const slot = await this.#slots.tryTake(run.slot);
      if (slot) return { run: latest, slot };
      await this.#deps.clock.sleep(LOOK_AGAIN_MS, inTime);
    }
  }

  /** Connects from the slot, lets `action` talk, and leaves in good order whatever happens. */
  async #converse(
    slot: Slot,
    inTime: AbortSignal,
    action: (conversation: Conversation) => Promise<Run>,
  ): Promise<Outcome> {
    const { clock, log, connect } = this.#deps;
    const link = connect(slot.clientId);
    const conversation = new Conversation(
      { slot, down: this.#options.down },
      { link, runs: this.runs, clock, log },
    );
    const over = new AbortController();
    // The reader stands before the connection does: answers may come before anything else.
    const receiving = conversation.receive(over.signal);
    try {
      await link.start(over.signal);
      await this.#within(CONNECT_MS, inTime, (soon) => conversation.connected(soon));
      const run = await action(conversation);
      return { run, collected: conversation.collected };
    } finally {
      await this.#within(CLOSE_MS, new AbortController().signal, (soon) => link.stop(soon));
      over.abort();
      await receiving;
    }
  }

  #draft(device: string, request: SendRequest, from: string, slot = 1): Run {
    const { clock, random } = this.#deps;
    const createdAt = clock.wallMs();
    const expiresAt = createdAt + request.lifetimeMs;
    const id = ulid(createdAt, random);
    const payload = encodeCommand({
      id,
      to: device,
      from,
      command: request.command,
      params: request.params ?? {},
      issuedAt: createdAt,
      expiresAt,
      ...(request.progress ? { progress: true } : {}),
    });
    return {
      id,
      device,
      command: request.command,
      slot,
      from,
      topic: makeP2pTopic(this.#options.down, device),
      payload: new TextDecoder().decode(payload),
      createdAt,
      expiresAt,
      contradictions: [],
      contradictionCount: 0,
    };
  }

  async #mustGet(id: string): Promise<Run> {
    const run = await this.runs.get(id);
    if (run) return run;
    throw new HoldfastError("not_found", `There is no run ${id} in ${this.#options.stateDir}.`);
  }

  /** As `#within`; what went wrong after `signal` aborted is only that. */
  async #call<T>(
    ms: number,
    signal: AbortSignal,
    action: (inTime: AbortSignal) => Promise<T>,
  ): Promise<T> {
    try {
      return await this.#within(ms, signal, action);
    } catch (error) {
      throw signal.aborted ? new HoldfastError("cancelled", undefined, { cause: error }) : error;
    }
  }

  /** Runs `action` with a signal that aborts with `signal` or after `ms`. */
  async #within<T>(
    ms: number,
    signal: AbortSignal,
    action: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const late = new AbortController();
    const done = new AbortController();
    const ended = AbortSignal.any([signal, done.signal]);
    const timer = this.#deps.clock.sleep(ms, ended).then(() => {
      if (!ended.aborted) late.abort();
    });
    try {
      return await action(AbortSignal.any([signal, late.signal]));
    } finally {
      done.abort();
      await timer;
    }
  }
}

async function noticed(
  notices: Notices | false | undefined,
  devices: readonly Presence[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Presence>> {
  const ids = devices.map(({ device }) => device);
  const judged = notices && ids.length > 0 ? await notices.judge(ids, signal) : [];
  return new Map(judged.map((one) => [one.device, one]));
}

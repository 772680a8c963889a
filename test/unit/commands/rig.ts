/** A Commands with everything around it under the hand of the test. */
import { setImmediate as nextTurn } from "node:timers/promises";
import {
  type Command,
  type CommandResult,
  Commands,
  type CommandsOptions,
  type Dispatcher,
  type Inbound,
} from "../../../agent/commands/commands.ts";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { type Logger, silentLog } from "../../../agent/core/log.ts";
import type { IncomingMessage, OutgoingMessage, Receipt } from "../../../agent/core/message.ts";
import { messageId } from "../../../agent/core/message.ts";
import { encodedPublishSize } from "../../../agent/core/publish-packet.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import type { Reservation, Staged, StagingOutbox } from "../../../agent/outbox/outbox.ts";
import { type CommandEnvelope, encodeCommand } from "../../../agent/protocol/envelope.ts";
import { parseReply, type Reply } from "../../../agent/protocol/reply.ts";
import type { Table } from "../../../agent/store/store.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { MemoryStore } from "../../support/memory-store.ts";

export const device = "GID_demo@@@gw-01";
export const console1 = "GID_demo@@@console-1";
export const ownTopic = `GW_DOWN/p2p/${device}`;
const never = new AbortController().signal;
/** Every Commands is another run of the agent. */
let runs = 0;

interface Stored {
  readonly topic: string;
  readonly text: string;
}

/** An outbox with one lane, whose messages live in the same store as the journal. */
export class FakeOutbox implements StagingOutbox {
  capacityBytes = 1_000_000;
  reserved = 0;
  failPuts = false;
  /** A put is acknowledged by the service, and the disk not asked. */
  online = false;
  /** Topics that cannot be published to. */
  refuses: (topic: string) => boolean = () => false;
  /** Awaited by every put: a link or disk that is stuck. */
  beforePut: () => Promise<void> = () => Promise.resolve();
  readonly sent: Stored[] = [];
  /** All that `put` was asked for, whether or not it came to anything. */
  readonly asked: Stored[] = [];
  readonly #store: MemoryStore;
  readonly #table: Table<Stored>;
  #seq = 0;

  constructor(store: MemoryStore) {
    this.#store = store;
    this.#table = store.table("fake_outbox", {
      encode: (value) => Buffer.from(JSON.stringify(value)),
      decode: (bytes) => JSON.parse(Buffer.from(bytes).toString("utf8")) as Stored,
    });
  }

  /** What is on disk from this run and those before it. */
  async stored(): Promise<readonly Stored[]> {
    const all: Stored[] = [];
    for await (const [, value] of this.#table.range({ limit: 1_000_000 })) all.push(value);
    return all;
  }

  async put(message: OutgoingMessage): Promise<Receipt> {
    this.asked.push({ topic: message.topic, text: Buffer.from(message.payload).toString("utf8") });
    await this.beforePut();
    if (this.failPuts) throw new HoldfastError("lane_full");
    if (this.online) {
      const id = messageId("0123456789ABCDEFGHJKMNPQRS", ++this.#seq);
      this.sent.push(this.asked.at(-1) as Stored);
      return { id, seq: this.#seq, safe: "broker" };
    }
    const staged = this.stage(message);
    await this.#store.commit(staged.writes, { sync: true });
    staged.committed();
    return { id: staged.id, seq: this.#seq, safe: "disk" };
  }

  reserve(lane: string, bytes: number): Reservation | undefined {
    if (this.reserved + bytes > this.capacityBytes) return undefined;
    this.reserved += bytes;
    let held = true;
    return {
      lane,
      bytes,
      release: () => {
        if (!held) throw new Error("a reservation is given back once");
        held = false;
        this.reserved -= bytes;
      },
    };
  }

  stage(message: OutgoingMessage, reservation?: Reservation): Staged {
    if (this.refuses(message.topic)) throw new HoldfastError("topic_too_long");
    const size = encodedPublishSize(Buffer.byteLength(message.topic), message.payload.length);
    if (reservation ? reservation.bytes < size : this.reserved + size > this.capacityBytes) {
      throw new HoldfastError("lane_full");
    }
    reservation?.release();
    const id = messageId("0123456789ABCDEFGHJKMNPQRS", ++this.#seq);
    const stored = { topic: message.topic, text: Buffer.from(message.payload).toString("utf8") };
    const key = `${performance.now().toFixed(6).padStart(24, "0")}-${this.#seq}`;
    let open = true;
    const end = (): void => {
      if (!open) throw new Error("a staged message ends once");
      open = false;
    };
    return {
      id,
      writes: [this.#table.put(key, stored)],
      committed: () => {
        end();
        this.sent.push(stored);
      },
      abandoned: end,
    };
  }
}

export class FakeInbound implements Inbound {
  #waiting: IncomingMessage[] = [];
  #wake: (() => void) | undefined;
  /** Payloads whose messages were accepted, in that order. */
  readonly accepted: Uint8Array[] = [];

  push(payload: Uint8Array, topic = ownTopic): void {
    const accept = (): void => {
      this.accepted.push(payload);
    };
    this.#waiting.push({ topic, payload, qos: 1, dup: false, accept });
    this.#wake?.();
  }

  async *messages(signal: AbortSignal): AsyncIterable<IncomingMessage> {
    signal.addEventListener("abort", () => this.#wake?.(), { once: true });
    while (!signal.aborted) {
      const next = this.#waiting.shift();
      if (next) yield next;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  get unread(): number {
    return this.#waiting.length;
  }
}

/** Runs a command until the test ends it. */
export class FakeDispatcher implements Dispatcher {
  readonly begun: Command[] = [];
  readonly aborted: string[] = [];
  /** Set: commands end at once with this. */
  answer: ((command: Command) => CommandResult | Promise<CommandResult>) | undefined;
  readonly #open = new Map<string, (result: CommandResult) => void>();

  dispatch(command: Command, signal: AbortSignal): Promise<CommandResult> {
    this.begun.push(command);
    signal.addEventListener("abort", () => this.aborted.push(command.id), { once: true });
    if (this.answer) return Promise.resolve(this.answer(command));
    return new Promise((resolve) => this.#open.set(command.id, resolve));
  }

  end(id: string, result: CommandResult = { status: "succeeded", result: id }): void {
    this.#open.get(id)?.(result);
    this.#open.delete(id);
  }

  get running(): readonly string[] {
    return [...this.#open.keys()];
  }
}

export interface RigParts {
  readonly store?: MemoryStore;
  readonly clock?: FakeClock;
  readonly options?: Partial<CommandsOptions>;
  readonly dispatcher?: FakeDispatcher;
  readonly capacityBytes?: number;
  readonly log?: Logger;
  readonly refuses?: (topic: string) => boolean;
}

export class Rig {
  readonly store: MemoryStore;
  readonly clock: FakeClock;
  readonly outbox: FakeOutbox;
  readonly dispatcher: FakeDispatcher;
  readonly inbound = new FakeInbound();
  readonly commands: Commands;

  constructor(parts: RigParts = {}) {
    this.store = parts.store ?? new MemoryStore();
    this.clock = parts.clock ?? new FakeClock();
    this.outbox = new FakeOutbox(this.store);
    this.outbox.capacityBytes = parts.capacityBytes ?? this.outbox.capacityBytes;
    this.outbox.refuses = parts.refuses ?? this.outbox.refuses;
    this.dispatcher = parts.dispatcher ?? new FakeDispatcher();
    this.commands = new Commands(
      {
        clientId: device,
        profile: "lmq",
        up: "GW_UP",
        down: "GW_DOWN",
        topicMax: 128,
        allowUnsigned: ["system.*", "other.*"],
        replyTo: ["{down}/p2p/+", "{up}/reply/+"],
        replyRate: 1_000,
        maxQueued: 1_000,
        runId: `run-${++runs}`,
        bootId: "boot-1",
        ...parts.options,
      },
      {
        store: this.store,
        outbox: this.outbox,
        dispatcher: this.dispatcher,
        clock: this.clock,
        random: new SystemRandom(),
        log: parts.log ?? silentLog,
      },
    );
  }

  static async started(parts: RigParts = {}): Promise<Rig> {
    const rig = new Rig(parts);
    await rig.start();
    return rig;
  }

  async start(): Promise<void> {
    await this.commands.start(never);
    void this.commands.consume(this.inbound, never);
  }

  command(fields: Partial<CommandEnvelope> = {}): Uint8Array {
    return encodeCommand({
      id: "c1",
      to: device,
      from: console1,
      command: "system.ping",
      params: {},
      issuedAt: this.clock.wallMs(),
      expiresAt: this.clock.wallMs() + 60_000,
      ...fields,
    });
  }

  /** Sends bytes or a command with these fields; gives the bytes; resolves when all is at rest. */
  async send(
    what: Uint8Array | Partial<CommandEnvelope> = {},
    topic?: string,
  ): Promise<Uint8Array> {
    const bytes = what instanceof Uint8Array ? what : this.command(what);
    this.inbound.push(bytes, topic);
    await this.settle();
    return bytes;
  }

  /** Lets everything run that waits for nothing but its turn. */
  async settle(): Promise<void> {
    for (let i = 0; i < 6; i++) await nextTurn();
  }

  get replies(): readonly (Reply & { readonly topic: string })[] {
    return this.outbox.sent.map(({ topic, text }) => ({ topic, ...parseReply(Buffer.from(text)) }));
  }

  get statuses(): readonly string[] {
    return this.replies.map(({ id, status }) => `${id} ${status}`);
  }

  count(name: string): number {
    return this.commands.stats().counts[name] ?? 0;
  }

  /** The next run of the agent on what a cut left; the old run hears nothing of it. */
  async afterPowerCut(parts: RigParts = {}): Promise<Rig> {
    return Rig.started({ store: this.store.afterPowerCut(), clock: this.clock, ...parts });
  }
}

const raw = { encode: (value: Uint8Array) => value, decode: (value: Uint8Array) => value };

export async function keysOf(store: MemoryStore, table: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const [key] of store.table(table, raw).range({ limit: 1_000_000 })) keys.push(key);
  return keys;
}

/** The record stays, and cannot be read any more. */
export async function damage(store: MemoryStore, table: string, key: string): Promise<void> {
  await store.commit([{ table, key, value: Buffer.from("{}") }], { sync: true });
}

export async function damageAll(store: MemoryStore, table: string): Promise<void> {
  for (const key of await keysOf(store, table)) await damage(store, table, key);
}

/**
 * One seeded schedule of an outbox's life: puts, acknowledgements in any order, cut connections,
 * failing commits, kills and power cuts, over a simulated disk, link and clock. `run` throws when a
 * promise is broken; the seed replays it.
 */
import { assert } from "../../agent/core/assert.ts";
import { silentLog } from "../../agent/core/log.ts";
import { DurableOutbox, Forwarder } from "../../agent/outbox/outbox.ts";
import { SettleNotes } from "../../agent/outbox/settle-notes.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { MemoryVolatileLog } from "../support/memory-volatile-log.ts";
import { SeededRandom } from "../support/seeded-random.ts";
import { type Received, SimLink } from "../support/sim-link.ts";

const WINDOW = 8;
const SETTLE_EVERY = 16;
const LANES = ["alarm", "telemetry"] as const;
const TOPICS = ["up/a", "up/b"] as const;

interface Outcome {
  readonly accepted: number;
  readonly delivered: number;
  readonly duplicates: number;
  readonly kills: number;
  readonly powerCuts: number;
  readonly closes: number;
}

interface Life {
  /** Set at the kill: what this process still says afterwards, nobody hears. */
  dead: boolean;
  readonly outbox: DurableOutbox;
  readonly forwarder: Forwarder;
  offer(link: SimLink | undefined): void;
}

export class OutboxWorld {
  readonly #random: SeededRandom;
  readonly #clock = new FakeClock();
  #store = new MemoryStore();
  readonly #volatile = new MemoryVolatileLog();
  #life!: Life;
  #link: SimLink | undefined;
  #counter = 0;
  /** Text of every accepted message, to its id. */
  readonly #accepted = new Map<string, string>();
  /** Messages whose put was refused or never answered: they may arrive or not. */
  readonly #unanswered = new Set<string>();
  readonly #firstDeliveries = new Map<string, number[]>();
  readonly #deliveries = new Map<string, { id: string; topic: string; count: number }>();
  /** Duplicates that the cuts so far may cause, and those seen. */
  #allowedDuplicates = 0;
  #duplicates = 0;
  #kills = 0;
  #powerCuts = 0;
  #closes = 0;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
  }

  async run(steps: number): Promise<Outcome> {
    await this.#boot();
    for (let step = 0; step < steps; step++) {
      await this.#step();
      await this.#clock.advance(this.#random.int(40));
    }
    await this.#heal();
    this.#checkAllDelivered();
    await this.#while(this.#life.forwarder.stop());
    await this.#while(this.#life.outbox.stop(new AbortController().signal));
    return {
      accepted: this.#accepted.size,
      delivered: this.#deliveries.size,
      duplicates: this.#duplicates,
      kills: this.#kills,
      powerCuts: this.#powerCuts,
      closes: this.#closes,
    };
  }

  /** Lets time pass until it is done. */
  async #while(work: Promise<void>): Promise<void> {
    let done = false;
    const end = work.finally(() => {
      done = true;
    });
    for (let round = 0; !done; round++) {
      assert(round < 1_000, "stopping ends");
      await this.#clock.advance(100);
    }
    await end;
  }

  async #step(): Promise<void> {
    const dice = this.#random.int(100);
    if (dice < 45) this.#put(1 + this.#random.int(6));
    else if (dice < 75) this.#ackSome();
    else if (dice < 82) this.#connect();
    else if (dice < 88) this.#cut();
    else if (dice < 92) this.#store.failCommits(1 + this.#random.int(3));
    else if (dice < 95) this.#slowSync();
    else if (dice < 97) await this.#kill(this.#store.afterKill(), "kill");
    else if (dice < 99) await this.#kill(this.#store.afterPowerCut(), "power");
    else this.#clock.jumpWall((this.#random.float() - 0.5) * 2 * 365 * 86_400_000);
  }

  async #boot(): Promise<void> {
    const lane = { maxMessages: 100_000, maxBytes: 1e9, ttlMs: 0, whenFull: "refuse" } as const;
    const outbox = new DurableOutbox(
      {
        lanes: { alarm: { ...lane, priority: 1 }, telemetry: { ...lane, priority: 5 } },
        persistDelayMs: this.#random.chance(0.2) ? 0 : 50,
        settleEvery: SETTLE_EVERY,
        checkTopic: () => undefined,
        bootId: `boot-${this.#powerCuts}`,
      },
      {
        store: this.#store,
        volatileLog: this.#volatile.open(),
        clock: this.#clock,
        random: this.#random,
        log: silentLog,
      },
    );
    await outbox.start();
    let current: SimLink | undefined;
    let wake: (() => void) | undefined;
    const connected = async (signal: AbortSignal): Promise<SimLink | undefined> => {
      while (!current && !signal.aborted) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }
      const link = current;
      current = undefined;
      return signal.aborted ? undefined : link;
    };
    const forwarder = new Forwarder(
      { window: WINDOW, maxRate: 0 },
      { outbox, connected, clock: this.#clock, log: silentLog },
    );
    await forwarder.start();
    const offer = (link: SimLink | undefined): void => {
      current = link;
      wake?.();
    };
    this.#life = { dead: false, outbox, forwarder, offer };
  }

  #put(count: number): void {
    const life = this.#life;
    for (let i = 0; i < count; i++) {
      const text = String(++this.#counter);
      const lane = LANES[this.#random.int(LANES.length)] as string;
      const topic = TOPICS[this.#random.int(TOPICS.length)] as string;
      this.#unanswered.add(text);
      life.outbox.put({ topic: `${topic}/${lane}`, payload: Buffer.from(text), lane }).then(
        (receipt) => {
          if (life.dead) return;
          this.#accepted.set(text, receipt.id);
          this.#unanswered.delete(text);
        },
        () => undefined,
      );
    }
  }

  #ackSome(): void {
    const link = this.#link;
    for (let n = this.#random.int(8); link && n > 0 && link.unacked.length > 0; n--) {
      link.ack(this.#random.chance(0.8) ? 0 : this.#random.int(link.unacked.length));
    }
  }

  #connect(): void {
    if (this.#link) return;
    this.#link = new SimLink((message) => this.#received(message));
    this.#life.offer(this.#link);
  }

  #cut(): void {
    if (!this.#link) return;
    this.#closes++;
    this.#allowedDuplicates += WINDOW;
    this.#link.close();
    this.#link = undefined;
    this.#life.offer(undefined);
  }

  #slowSync(): void {
    const ms = this.#random.int(120);
    this.#store.beforeSync = () => this.#clock.sleep(ms, new AbortController().signal);
  }

  async #kill(left: MemoryStore, how: "kill" | "power"): Promise<void> {
    // I3: a kill repeats at most what was in flight; a power cut also the settlements that were
    // not committed: `settleEvery`, those of a slow commit under way, and of a disk that failed.
    const uncommitted = this.#notedMessages();
    this.#allowedDuplicates += WINDOW + (how === "power" ? uncommitted : 0);
    if (how === "power") this.#volatile.clear();
    if (how === "kill") this.#kills++;
    else this.#powerCuts++;
    const dead = this.#life;
    dead.dead = true;
    this.#link?.close();
    this.#link = undefined;
    this.#store = left;
    await this.#boot();
    void dead.forwarder.stop();
  }

  /** Messages that are settled by a note only, at most; the first after a kill speak for many. */
  #notedMessages(): number {
    let messages = 0;
    for (const mask of new SettleNotes(this.#volatile.open()).read().values()) {
      for (let rest = mask >>> 0; rest !== 0; rest >>>= 1) messages += rest & 1;
    }
    return Math.max(messages, this.#volatile.length / 12);
  }

  #received({ id, topic, text }: Received): void {
    const before = this.#deliveries.get(text);
    if (before) {
      assert(before.id === id, `message ${text} came with two ids`);
      assert(before.topic === topic, `message ${text} came on two topics`);
      before.count++;
      this.#duplicates++;
      return;
    }
    this.#deliveries.set(text, { id, topic, count: 1 });
    const stream = this.#firstDeliveries.get(topic) ?? [];
    const last = stream.at(-1) ?? 0;
    assert(Number(text) > last, `in ${topic} message ${text} came after ${last}`);
    stream.push(Number(text));
    this.#firstDeliveries.set(topic, stream);
  }

  async #heal(): Promise<void> {
    this.#store.failCommits(0);
    this.#store.beforeSync = () => Promise.resolve();
    for (let round = 0; round < 2_000; round++) {
      this.#connect();
      while (this.#link && this.#link.unacked.length > 0) this.#link.ack();
      await this.#clock.advance(100);
      const { lanes } = this.#life.outbox.stats();
      const left = Object.values(lanes).reduce((sum, { messages }) => sum + messages, 0);
      if (left === 0 && this.#life.forwarder.inFlight === 0) return;
    }
    const state = JSON.stringify(this.#life.outbox.stats());
    const link = `${this.#link?.unacked.length} unacked, ${this.#life.forwarder.inFlight} in flight`;
    throw new Error(`the outbox did not drain after everything had healed: ${state}, ${link}`);
  }

  #checkAllDelivered(): void {
    for (const [text, id] of this.#accepted) {
      const delivery = this.#deliveries.get(text);
      assert(delivery !== undefined, `accepted message ${text} (${id}) was lost`);
      assert(delivery.id === id, `message ${text} was accepted as ${id}, sent as ${delivery.id}`);
    }
    assert(
      this.#duplicates <= this.#allowedDuplicates,
      `${this.#duplicates} duplicates, ${this.#allowedDuplicates} allowed`,
    );
  }
}

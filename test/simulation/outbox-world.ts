/**
 * Carries out one plan: outbox, forwarder and the real store over a simulated disk, link and clock.
 * `run` throws when a promise is broken.
 *
 * Time stands still between two steps and all that was due has run, so that what is looked at then
 * is settled; kills and power cuts come at such moments, or while a sync is under way.
 */
import { cpSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { assert } from "../../agent/core/assert.ts";
import { type Logger, silentLog } from "../../agent/core/log.ts";
import {
  DurableOutbox,
  Forwarder,
  type LaneOptions,
  type Reservation,
} from "../../agent/outbox/outbox.ts";
import { DatabaseStore } from "../../agent/store/store.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { MemoryVolatileLog } from "../support/memory-volatile-log.ts";
import { SeededRandom } from "../support/seeded-random.ts";
import { type Received, SimLink } from "../support/sim-link.ts";
import type { LaneName, Lanes, Plan, PlannedMessage, Step } from "./plan.ts";
import { checkBounds, type Moment, Promises, type Tracked } from "./promises.ts";
import { SimDisk } from "./sim-disk.ts";

export interface Outcome {
  readonly accepted: number;
  readonly duplicates: number;
  readonly restarts: number;
  readonly closes: number;
  readonly refused: number;
  readonly dropped: number;
}

interface Life {
  readonly number: number;
  /** Set at its end: what this process still says afterwards, nobody hears. */
  dead: boolean;
  readonly store: DatabaseStore;
  readonly outbox: DurableOutbox;
  readonly forwarder: Forwarder;
  readonly lanes: Lanes;
  readonly startedMs: number;
  readonly reservations: Reservation[];
  readonly waiting: Set<Tracked>;
  /** What each lane had at the start. */
  readonly base: Readonly<Record<string, { readonly messages: number; readonly bytes: number }>>;
  readonly counted: Map<string, number>;
  readonly put: Tracked[];
  readonly acknowledged: Set<string>;
  readonly arrived: Set<string>;
  /** First sendings in this life, in their order. */
  readonly sent: Map<string, { readonly order: number; readonly packetId: number }>;
  offer(link: SimLink | undefined): void;
}

type Say = Logger["info"];

/** After this long without trouble everything that was due is on disk: retry, settlement, syncs. */
const CALM_MS = 2_000;
const SYNC_MS = 120;
const ACK_TIMEOUT_MS = 2_000;
const SCRATCH = "/dev/shm";
/** Names of what Node awaits of files, among its active resources. */
const FILE_WORK = /^(FSReq|CloseReq)/;

export class OutboxWorld {
  readonly #plan: Plan;
  readonly #trace: (line: string) => void;
  readonly #random: SeededRandom;
  readonly #clock = new FakeClock({ settle: settleWithFiles });
  readonly #disk: SimDisk;
  readonly #volatile = new MemoryVolatileLog();
  readonly #promises = new Promises();
  readonly #dir = mkdtempSync(join(scratchFolder(), "holdfast-sim-"));
  #life!: Life;
  #lives = 0;
  #boots = 0;
  #link: SimLink | undefined;
  #lastOrder = 0;
  #deaf = false;
  #healing = false;
  #offlineSinceMs = 0;
  #slowUntilMs = 0;
  #copy: Map<string, Uint8Array> | undefined;
  readonly #copyDir = `${this.#dir}-copy`;
  /** Moments of acknowledgements that were handed to the outbox. */
  #acknowledgedMs: number[] = [];
  #counter = 0;
  readonly #seen = { restarts: 0, closes: 0, refused: 0, dropped: 0 };

  constructor(plan: Plan, trace: (line: string) => void = () => undefined) {
    this.#plan = plan;
    this.#trace = (line) => trace(`${String(this.#clock.monotonicMs()).padStart(7)} ${line}`);
    this.#random = new SeededRandom(plan.seed);
    this.#disk = new SimDisk(this.#clock, new SeededRandom(plan.seed + 1), this.#trace);
  }

  async run(): Promise<Outcome> {
    try {
      await this.#boot(this.#plan.lanes);
      for (const { step, thenMs } of this.#plan.steps) {
        await this.#do(step);
        await this.#clock.advance(thenMs);
        this.#look();
      }
      await this.#heal();
      await this.#checkEnd();
    } finally {
      rmSync(this.#dir, { recursive: true, force: true });
      rmSync(this.#copyDir, { recursive: true, force: true });
    }
    const accepted = [...this.#promises.messages.values()].filter((m) => m.state === "accepted");
    return { accepted: accepted.length, duplicates: this.#promises.duplicates, ...this.#seen };
  }

  async #do(step: Step): Promise<void> {
    this.#trace(describe(step));
    const disk = this.#disk;
    const untilMs = "ms" in step ? this.#clock.monotonicMs() + step.ms : 0;
    switch (step.do) {
      case "put":
        for (const message of step.messages) this.#put(message);
        return;
      case "reserve":
        this.#reserve(step.lane, step.bytes);
        return;
      case "release":
        this.#life.reservations.shift()?.release();
        return;
      case "stage":
        this.#stage(step.message, step.abandon);
        return;
      case "ack":
        this.#acknowledge(step.places);
        return;
      case "connect":
        this.#connect();
        return;
      case "close":
        this.#close(step.reason);
        return;
      case "fail-once":
        disk.failOnce(step.what);
        return;
      case "full":
        disk.fullUntilMs = untilMs;
        return;
      case "unreadable":
        disk.unreadableUntilMs = untilMs;
        return;
      case "unopenable":
        disk.unopenableUntilMs = untilMs;
        return;
      case "slow-sync":
        disk.syncMs = step.ms;
        return;
      case "restart":
        await this.#restart(step.how, step.lanes);
        return;
      case "copy-state":
        this.#copy = disk.snapshot();
        cpSync(this.#dir, this.#copyDir, { recursive: true });
        return;
      case "put-back-copy":
        await this.#putBackCopy();
        return;
      case "jump-wall":
        this.#promises.timePassed(this.#now());
        this.#clock.jumpWall(step.ms);
        return;
      case "trust":
        this.#promises.timePassed(this.#now());
        this.#clock.setTrusted(step.trusted);
        return;
      default:
        step satisfies never;
    }
  }

  #track(planned: PlannedMessage): Tracked {
    const text = String(++this.#counter);
    const life = this.#life;
    const { lane, topic } = planned;
    return this.#promises.offer({
      text,
      lane,
      topic,
      payload: `${text} `.padEnd(planned.bytes, "."),
      ttlMs: planned.ttlMs ?? life.lanes[lane]?.ttlMs ?? 0,
      putAt: this.#now(),
      life: life.number,
    });
  }

  #put(planned: PlannedMessage): void {
    const life = this.#life;
    const message = this.#track(planned);
    this.#promises.place(message);
    life.put.push(message);
    life.waiting.add(message);
    const { topic, payload, lane, text } = message;
    for (let n = planned.twice ? 2 : 1; n > 0; n--) {
      const put = life.outbox.put({
        topic,
        payload: Buffer.from(payload),
        lane,
        ...(planned.ttlMs !== undefined && { ttlMs: planned.ttlMs }),
        ...(planned.key !== undefined && { key: planned.key }),
        ...(planned.twice && { producerId: `producer ${text}` }),
      });
      put.then(
        ({ id }) => this.#answered(life, message, id),
        (error: unknown) => this.#answered(life, message, undefined, error),
      );
    }
  }

  #answered(life: Life, message: Tracked, id: string | undefined, error?: unknown): void {
    if (life.dead) return;
    life.waiting.delete(message);
    this.#trace(`  ${message.text} ${id === undefined ? String(error) : `accepted as ${id}`}`);
    if (id !== undefined) this.#promises.accepted(message, id);
    else {
      this.#seen.refused++;
      this.#promises.refused(message);
    }
  }

  #reserve(lane: LaneName, bytes: number): void {
    const reservation = this.#life.outbox.reserve(lane, bytes);
    if (reservation) this.#life.reservations.push(reservation);
  }

  #stage(planned: PlannedMessage, abandon: boolean): void {
    const life = this.#life;
    const message = this.#track({ ...planned, topic: `staged/${planned.lane}` });
    const { topic, payload, lane } = message;
    const reservation = life.reservations.find((one) => one.lane === lane);
    if (reservation) life.reservations.splice(life.reservations.indexOf(reservation), 1);
    try {
      const staged = life.outbox.stage(
        { topic, payload: Buffer.from(payload), lane, ttlMs: message.ttlMs },
        reservation,
      );
      life.put.push(message);
      const given = (error: unknown): void => {
        if (life.dead) return;
        staged.abandoned();
        this.#answered(life, message, undefined, error);
      };
      if (abandon) {
        given("abandoned");
        return;
      }
      life.store.commit(staged.writes, { sync: true }).then(() => {
        if (life.dead) return;
        this.#promises.place(message);
        staged.committed();
        this.#answered(life, message, staged.id);
      }, given);
    } catch (error) {
      reservation?.release();
      this.#answered(life, message, undefined, error);
    }
  }

  #acknowledge(places: readonly number[]): void {
    const link = this.#link;
    for (const place of places) {
      const received = link?.ack(place % Math.max(1, link.unacked.length));
      if (!received) return;
      this.#acknowledgedMs.push(this.#clock.monotonicMs());
      const text = textOf(received);
      this.#life.acknowledged.add(text);
      this.#trace(`  acknowledged ${text}`);
      // What a broker says twice changes nothing.
      if (this.#random.chance(0.05)) link?.acknowledge(received);
    }
  }

  #connect(): void {
    if (this.#link) return;
    let order = 0;
    const life = this.#life;
    // Some links lose everything from a moment on, before they are closed.
    let heard = !this.#healing && this.#random.chance(0.2) ? this.#random.int(12) : 1e9;
    this.#deaf = heard < 1e9;
    this.#link = new SimLink((received) => {
      if (life.dead) return;
      order = this.#sent(life, received, order);
      if (heard-- > 0) this.#promises.arrived(received, this.#now());
      else this.#link?.unacked.pop();
    });
    life.offer(this.#link);
  }

  /** Checks one PUBLISH; gives its place in the order of first sendings. */
  #sent(life: Life, received: Received, lastOrder: number): number {
    const text = textOf(received);
    const { packetId, dup } = received;
    this.#trace(`  sent ${text} as ${received.id}, packet ${packetId}${dup ? ", again" : ""}`);
    const before = life.sent.get(text);
    const order = before?.order ?? ++this.#lastOrder;
    assert(order > lastOrder, `${text} was sent out of order`);
    if (before) {
      assert(dup, `${text} was sent again without DUP`);
      assert(before.packetId === packetId, `${text} was sent again with another packet id`);
    }
    life.sent.set(text, { order, packetId });
    life.arrived.add(text);
    const unacked = this.#link?.unacked ?? [];
    const { window } = this.#plan;
    assert(unacked.length <= window, `${unacked.length} in flight, the window is ${window}`);
    const ids = new Set(unacked.map((one) => one.packetId));
    assert(ids.size === unacked.length, `packet id ${packetId} is used twice`);
    return order;
  }

  #close(reason: Parameters<SimLink["close"]>[0]): void {
    if (!this.#link) return;
    this.#seen.closes++;
    this.#promises.allowedDuplicates += this.#life.forwarder.inFlight;
    this.#cutLink(reason);
  }

  #cutLink(reason: Parameters<SimLink["close"]>[0]): void {
    this.#link?.close(reason);
    this.#link = undefined;
    this.#offlineSinceMs = this.#clock.monotonicMs();
    this.#life.offer(undefined);
  }

  async #restart(how: "clean" | "kill" | "power", lanes: Lanes): Promise<void> {
    this.#seen.restarts++;
    const life = this.#life;
    // I3: what was in flight is sent again, after a power cut also what was not noted on disk.
    const repeats = life.forwarder.inFlight + (how === "power" ? this.#unsynced() : 0);
    this.#promises.allowedDuplicates += repeats;
    if (how === "clean") await this.#stop(life);
    // Ended before it could take back a batch that failed and is there all the same.
    if (this.#disk.doubtful) this.#promises.allowedDuplicates += life.put.length;
    this.#end(life);
    this.#promises.letGoReturns(this.#onDiskSinceMs());
    if (how === "kill") this.#disk.kill();
    if (how === "power") {
      this.#disk.powerCut();
      this.#volatile.clear();
      this.#boots++;
    }
    this.#trace(`  may repeat ${repeats}`);
    await this.#boot(lanes);
  }

  async #stop(life: Life): Promise<void> {
    this.#cutLink("stopped");
    this.#disk.heal();
    await this.#while(life.forwarder.stop());
    await this.#while(life.outbox.stop(new AbortController().signal));
    this.#look();
    await this.#while(life.store.stop());
    assert(life.waiting.size === 0, `${life.waiting.size} puts had no answer at the stop`);
  }

  /** From here on nobody hears it; what it still awaits never comes. */
  #end(life: Life): void {
    life.dead = true;
    this.#cutLink("network");
    void life.forwarder.stop();
    void life.outbox.stop(AbortSignal.abort());
  }

  /** What was settled or let go before this moment is on disk. */
  #onDiskSinceMs(): number {
    const now = this.#clock.monotonicMs();
    const troubleMs = Math.max(this.#disk.lastTroubleMs, this.#life.startedMs);
    return now - troubleMs < CALM_MS ? Number.NEGATIVE_INFINITY : now - CALM_MS;
  }

  /** Settlements that may not be on disk yet. */
  #unsynced(): number {
    const now = this.#clock.monotonicMs();
    const sinceMs = this.#onDiskSinceMs();
    const recent = this.#acknowledgedMs.filter((ms) => ms > sinceMs).length;
    if (sinceMs < now - CALM_MS || now < this.#slowUntilMs + CALM_MS) return recent;
    return Math.min(recent, this.#plan.settleEvery + this.#plan.window + 1);
  }

  /** A person stops it and puts an old copy of the state folder back. */
  async #putBackCopy(): Promise<void> {
    if (!this.#copy) return;
    this.#end(this.#life);
    this.#disk.restore(this.#copy);
    this.#copy = undefined;
    rmSync(this.#dir, { recursive: true });
    renameSync(this.#copyDir, this.#dir);
    this.#promises.forgive();
    await this.#boot(this.#life.lanes);
  }

  async #boot(lanes: Lanes): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      if (attempt > 20) this.#disk.heal();
      assert(attempt < 25, "the outbox does not start on a healthy disk");
      let started: Life | undefined;
      await this.#while(
        this.#start(lanes).then(
          (life) => {
            started = life;
          },
          (error: unknown) => this.#trace(`  does not start: ${String(error)}`),
        ),
      );
      if (started) {
        this.#life = started;
        this.#trace(`  started with ${JSON.stringify(started.base)}`);
        return;
      }
      await this.#clock.advance(300);
    }
  }

  async #start(lanes: Lanes): Promise<Life> {
    const clock = this.#clock;
    const store = new DatabaseStore(
      { dir: this.#dir },
      {
        openDatabase: this.#disk.open,
        random: this.#random,
        log: this.#log("store"),
        probe: () => this.#disk.probe(),
        repair: () => Promise.resolve(),
      },
    );
    await store.start();
    const outbox = new DurableOutbox(
      {
        lanes: lanes as Readonly<Record<string, LaneOptions>>,
        persistDelayMs: this.#plan.persistDelayMs,
        settleEvery: this.#plan.settleEvery,
        checkTopic: () => undefined,
        bootId: `boot ${this.#boots}`,
      },
      { store, volatileLog: this.#volatile.open(), clock, random: this.#random, log: silentLog },
    );
    await outbox.start();
    const { connected, offer } = door();
    const forwarder = new Forwarder(
      { window: this.#plan.window, maxRate: 0, ackTimeoutMs: ACK_TIMEOUT_MS },
      { outbox, connected, clock, log: silentLog },
    );
    await forwarder.start();
    return {
      number: ++this.#lives,
      dead: false,
      store,
      outbox,
      forwarder,
      lanes,
      startedMs: clock.monotonicMs(),
      reservations: [],
      waiting: new Set(),
      base: outbox.stats().lanes,
      counted: new Map(),
      put: [],
      acknowledged: new Set(),
      arrived: new Set(),
      sent: new Map(),
      offer,
    };
  }

  /** What must be true whenever all that was due has run. */
  #look(): void {
    const life = this.#life;
    const now = this.#now();
    this.#disk.look();
    if (this.#disk.syncMs > 0) this.#slowUntilMs = now.monotonicMs;
    this.#promises.timePassed(now);
    for (const [name, stats] of Object.entries(life.outbox.stats().lanes)) {
      const lane = name as LaneName;
      const base = life.base[name] ?? { messages: 0, bytes: 0 };
      checkBounds(name, stats, life.lanes[lane], base);
      for (const [reason, count] of Object.entries(stats.dropped)) {
        const key = `${name} ${reason}`;
        const more = count - (life.counted.get(key) ?? 0);
        this.#promises.dropped(lane, reason, more, now);
        this.#seen.dropped += more;
        life.counted.set(key, count);
      }
      this.#checkAccount(life, lane, stats.messages - base.messages);
    }
    this.#checkAnswers(life, now);
  }

  /** What came less what went is what is there. */
  #checkAccount(life: Life, lane: LaneName, change: number): void {
    let expected = 0;
    let perhaps = 0;
    for (const message of life.put) {
      if (message.lane !== lane) continue;
      if (message.state !== "refused" || life.arrived.has(message.text)) expected++;
      // Refused after it was taken: it will be sent, and is ours until then.
      else perhaps++;
    }
    for (const text of life.acknowledged) {
      if (this.#promises.messages.get(text)?.lane === lane) expected--;
    }
    for (const [key, count] of life.counted) if (key.startsWith(`${lane} `)) expected -= count;
    const most = expected + Math.min(perhaps, life.forwarder.inFlight);
    assert(
      change >= expected && change <= most,
      `${lane} has ${change} messages more than at the start, it should be ${expected}`,
    );
  }

  /** A put is answered in its time: at once while offline, else after the persist delay. */
  #checkAnswers(life: Life, { monotonicMs: now }: Moment): void {
    const calmSinceMs = Math.max(
      this.#disk.lastTroubleMs,
      this.#slowUntilMs,
      life.startedMs,
      now - CALM_MS,
    );
    if (this.#disk.troubled || now - calmSinceMs < CALM_MS) return;
    const patienceMs = this.#link ? this.#plan.persistDelayMs + SYNC_MS : 0;
    for (const { text, putAt } of life.waiting) {
      const sinceMs = this.#link
        ? putAt.monotonicMs
        : Math.max(putAt.monotonicMs, this.#offlineSinceMs);
      assert(
        now - sinceMs <= patienceMs || now === sinceMs,
        `the put of ${text} has no answer after ${now - putAt.monotonicMs} ms`,
      );
    }
  }

  async #heal(): Promise<void> {
    this.#trace("everything heals");
    this.#disk.heal();
    this.#healing = true;
    if (this.#deaf) this.#close("ack_timeout");
    const life = this.#life;
    for (let round = 0; round < 300; round++) {
      this.#connect();
      while (this.#link && this.#link.unacked.length > 0) this.#acknowledge([0]);
      await this.#clock.advance(100);
      this.#look();
      const { lanes } = life.outbox.stats();
      const left = Object.values(lanes).reduce((sum, { messages }) => sum + messages, 0);
      if (left === 0 && life.forwarder.inFlight === 0 && life.waiting.size === 0) return;
    }
    const state = JSON.stringify(life.outbox.stats());
    throw new Error(`it did not drain after everything had healed: ${state}`);
  }

  async #checkEnd(): Promise<void> {
    const life = this.#life;
    this.#promises.checkDelivered(this.#plan.window);
    for (const reservation of life.reservations.splice(0)) reservation.release();
    for (const [lane, { maxBytes, maxMessages }] of Object.entries(life.lanes)) {
      const all = life.outbox.reserve(lane, maxBytes);
      assert(all !== undefined, `an empty ${lane} has not all of its bytes to give`);
      all.release();
      if (maxMessages > 100) continue;
      const each = Array.from({ length: maxMessages }, () => life.outbox.reserve(lane, 1));
      assert(!each.includes(undefined), `an empty ${lane} has not all of its places to give`);
      for (const one of each) one?.release();
    }
    await this.#stop(life);
    this.#end(life);
    // A clean stop leaves nothing to be sent again, but what was refused and is there after all.
    this.#disk.kill();
    await this.#boot(this.#plan.lanes);
    await this.#heal();
    await this.#stop(this.#life);
    this.#end(this.#life);
  }

  /** Lets time pass until it is done. */
  async #while(work: Promise<void>): Promise<void> {
    let done = false;
    const end = work.finally(() => {
      done = true;
    });
    end.catch(() => undefined);
    await this.#clock.advance(0);
    for (let round = 0; !done; round++) {
      assert(round < 1_000, "stopping or starting ends");
      await this.#clock.advance(100);
    }
    await end;
  }

  /** What a part logs is in the trace. */
  #log(part: string): Logger {
    const say =
      (level: string) =>
      (event: string, fields: object = {}): void =>
        this.#trace(`  ${part} ${level}: ${event} ${JSON.stringify(fields)}`);
    const [debug, info, warn, error] = ["debug", "info", "warn", "error"].map(say) as [
      Say,
      Say,
      Say,
      Say,
    ];
    return { debug, info, warn, error, child: () => this.#log(part) };
  }

  #now(): Moment {
    const clock = this.#clock;
    return {
      boot: this.#boots,
      monotonicMs: clock.monotonicMs(),
      wallMs: clock.wallMs(),
      trusted: clock.trusted(),
    };
  }
}

/** The way in which the forwarder of one process gets its links. */
function door() {
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
  const offer = (link: SimLink | undefined): void => {
    current = link;
    wake?.();
  };
  return { connected, offer };
}

function textOf({ text, topic, id }: Received): string {
  return /^\d+/.exec(text)?.[0] ?? `${topic} ${id}`;
}

function describe(step: Step): string {
  if (step.do === "put") {
    return `put ${step.messages.map(({ lane, bytes }) => `${lane}:${bytes}`).join(" ")}`;
  }
  return JSON.stringify(step);
}

/** The store's few files outside the database are real; they are waited for, as microtasks are. */
async function settleWithFiles(): Promise<void> {
  do await nextTurn();
  while (process.getActiveResourcesInfo().some((name) => FILE_WORK.test(name)));
}

function scratchFolder(): string {
  return process.platform === "linux" ? SCRATCH : tmpdir();
}

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
import type { Logger } from "../../agent/core/log.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { MemoryVolatileLog } from "../support/memory-volatile-log.ts";
import { SeededRandom } from "../support/seeded-random.ts";
import type { Received } from "../support/sim-link.ts";
import { textOf } from "./envelope.ts";
import { GAP_TOPIC, GapReports } from "./gap-reports.ts";
import { checkAccounts, countsOf, type Life, startLife } from "./life.ts";
import type { LaneName, Lanes, Plan, PlannedMessage, Step } from "./plan.ts";
import { checkBounds, type Moment, Promises, type Tracked } from "./promises.ts";
import { SimService } from "./service.ts";
import { SimDisk } from "./sim-disk.ts";

export interface Outcome {
  readonly accepted: number;
  readonly duplicates: number;
  readonly restarts: number;
  readonly closes: number;
  readonly refused: number;
  readonly dropped: number;
  readonly reported: number;
  readonly parked: number;
  readonly replaced: number;
  /** Topics that went to quarantine although nobody refused them. */
  readonly wronged: number;
}

type Say = Logger["info"];

/** After this long without trouble everything that was due is on disk: retry, settlement, syncs. */
const CALM_MS = 2_000;
const SYNC_MS = 120;
const SCRATCH = "/dev/shm";
/** Connections that a refused topic may cost; more on a link that breaks, or if it was taken before. */
const REFUSALS = 10;
const MOST_REFUSALS = 40;
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
  readonly #service: SimService;
  readonly #gaps = new GapReports();
  #lastOrder = 0;
  /** The place of the last one sent on the link of now. */
  #lastSent = 0;
  #slowUntilMs = 0;
  #copy: Map<string, Uint8Array> | undefined;
  readonly #copyDir = `${this.#dir}-copy`;
  /** What was acknowledged and may not be noted on disk yet. */
  #unsynced: { readonly text: string; readonly ms: number }[] = [];
  #counter = 0;
  /** Topics in quarantine that nobody refused. */
  readonly #wronged = new Set<string>();
  readonly #seen = { restarts: 0, closes: 0, refused: 0, dropped: 0, parked: 0, replaced: 0 };

  constructor(plan: Plan, trace: (line: string) => void = () => undefined) {
    this.#plan = plan;
    this.#trace = (line) => trace(`${String(this.#clock.monotonicMs()).padStart(7)} ${line}`);
    this.#random = new SeededRandom(plan.seed);
    this.#disk = new SimDisk(this.#clock, new SeededRandom(plan.seed + 1), this.#trace);
    this.#service = new SimService(this.#clock, this.#random, {
      sent: (received, isFirst) => this.#sent(received, isFirst),
      heard: (received) => this.#heard(received),
      acknowledged: (received) => this.#acknowledged(received),
      closing: () => this.#closing(),
      offer: (link) => this.#life.offer(link),
      trace: this.#trace,
    });
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
    const [duplicates, reported] = [this.#promises.repeats.seen, this.#gaps.told];
    const wronged = this.#wronged.size;
    return { accepted: accepted.length, duplicates, reported, wronged, ...this.#seen };
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
        for (const place of step.places) if (!this.#service.acknowledge(place)) return;
        return;
      case "connect":
        this.#service.connect();
        return;
      case "close":
        this.#service.close(step.reason);
        return;
      case "lively":
        this.#service.beLively(step.ms, step.resets);
        return;
      case "forbid":
        this.#service.refuse(step.topic);
        return;
      case "retry-parked":
        this.#life.outbox.quarantine.retry();
        return;
      case "make-room":
        this.#life.outbox.makeRoom(step.bytes, "quota");
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
      key: lane === "state" ? planned.key : undefined,
      wrapped: life.lanes[lane]?.payload === "cloudevents",
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
    const message = this.#track({ ...planned, key: undefined });
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

  #acknowledged(received: Received): void {
    const text = textOf(received);
    this.#unsynced.push({ text, ms: this.#clock.monotonicMs() });
    this.#life.acknowledged.add(text);
    this.#trace(`  acknowledged ${text}`);
  }

  #heard(received: Received): void {
    if (received.topic === GAP_TOPIC) this.#gaps.received(received);
    else this.#promises.arrived(received, this.#now());
  }

  /** Checks one PUBLISH. */
  #sent(received: Received, isFirst: boolean): void {
    const life = this.#life;
    const text = textOf(received);
    const { packetId, dup, topic } = received;
    this.#trace(`  sent ${text} as ${received.id}, packet ${packetId}${dup ? ", again" : ""}`);
    // What comes out of quarantine is sent anew.
    const isAnew = !dup && this.#mayBeParked(topic);
    const before = isAnew ? undefined : life.sent.get(text);
    const order = before?.order ?? ++this.#lastOrder;
    assert(isFirst || order > this.#lastSent, `${text} was sent out of order`);
    this.#lastSent = order;
    if (before) {
      assert(dup, `${text} was sent again without DUP`);
      assert(before.packetId === packetId, `${text} was sent again with another packet id`);
    }
    life.sent.set(text, { order, packetId });
    life.arrived.add(text);
    if (!before) this.#checkShares(life, received);
    const unacked = this.#service.link?.unacked ?? [];
    const { window } = this.#plan;
    assert(unacked.length <= window, `${unacked.length} in flight, the window is ${window}`);
    const ids = new Set(unacked.map((one) => one.packetId));
    assert(ids.size === unacked.length, `packet id ${packetId} is used twice`);
  }

  #checkShares({ shares, outbox, sent, acknowledged }: Life, received: Received): void {
    const { messages } = this.#promises;
    const lane = messages.get(textOf(received))?.lane;
    // What cannot be read or waits for quarantine is passed over.
    const passes = this.#diskFailed || this.#service.everRefused.size > 0 || this.#plan.bigPayloads;
    if (lane === undefined || passes || this.#service.hasReset) return;
    shares.sent(lane, received.text.length, (other) => {
      const ofLane = outbox.stats().lanes[other]?.messages ?? 0;
      let onTheirWay = 0;
      for (const text of sent.keys()) {
        if (!acknowledged.has(text) && messages.get(text)?.lane === other) onTheirWay++;
      }
      return ofLane > onTheirWay;
    });
  }

  /** I3: what is in flight is sent again. */
  #closing(): void {
    this.#seen.closes++;
    this.#promises.repeats.happened("a close", this.#inFlight(), this.#plan.window);
  }

  #mayBeParked(topic: string): boolean {
    return this.#service.hasReset || this.#service.everRefused.has(topic);
  }

  /**
   * What was sent and is not acknowledged. Of a topic that is refused some of it may be in quarantine:
   * that has the right to be sent again for itself.
   */
  #inFlight(): string[] {
    const { sent, acknowledged } = this.#life;
    const texts = [...sent.keys()].filter((text) => !acknowledged.has(text));
    const refused = texts.filter((text) => {
      const topic = this.#promises.messages.get(text)?.topic;
      return topic !== undefined && this.#mayBeParked(topic);
    });
    if (refused.length === 0) return texts;
    this.#promises.repeats.happened("a refusal", refused, refused.length);
    return texts.filter((text) => !refused.includes(text));
  }

  async #restart(how: "clean" | "kill" | "power", lanes: Lanes): Promise<void> {
    this.#seen.restarts++;
    const life = this.#life;
    this.#allowRepeats(how);
    if (how === "clean") await this.#stop(life);
    // Ended before it could take back a batch that failed and is there all the same.
    if (this.#disk.doubtful) {
      const texts = life.put.map(({ text }) => text);
      this.#promises.repeats.happened("a batch in doubt", texts, texts.length);
    }
    this.#end(life);
    const diskFailed = this.#diskFailed;
    this.#promises.letGoReturns(this.#onDiskSinceMs(), diskFailed);
    // What was let go last may be there again; its count is not on disk either.
    if (how !== "clean" && this.#promises.letGoSince(this.#onDiskSinceMs())) {
      this.#gaps.isExact = false;
    }
    if (how === "kill") this.#disk.kill();
    if (how === "power") {
      this.#disk.powerCut();
      this.#volatile.clear();
      this.#boots++;
    }
    await this.#boot(lanes);
  }

  /** I3: what was in flight is sent again, after a power cut also what was not noted on disk. */
  #allowRepeats(how: "clean" | "kill" | "power"): void {
    const { window, settleEvery } = this.#plan;
    const texts = this.#inFlight();
    if (how !== "power") {
      this.#promises.repeats.happened(`a restart (${how})`, texts, window);
      return;
    }
    const sinceMs = this.#onDiskSinceMs();
    for (const { text, ms } of this.#unsynced) if (ms > sinceMs) texts.push(text);
    this.#unsynced = [];
    // A disk that fails holds up nothing.
    const most = this.#diskFailed ? texts.length : window + settleEvery;
    this.#trace(`  may repeat ${most} of ${texts.join(" ")}`);
    this.#promises.repeats.happened("a power cut", texts, most);
  }

  get #diskFailed(): boolean {
    return this.#clock.monotonicMs() - this.#disk.lastTroubleMs < CALM_MS;
  }

  async #stop(life: Life): Promise<void> {
    this.#service.drop("stopped");
    life.offer(undefined);
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
    this.#service.drop("network");
    life.offer(undefined);
    void life.forwarder.stop();
    void life.outbox.stop(AbortSignal.abort());
  }

  /** What was settled or let go before this moment is on disk. */
  #onDiskSinceMs(): number {
    const now = this.#clock.monotonicMs();
    const troubleMs = Math.max(this.#disk.lastTroubleMs, this.#life.startedMs);
    return now - troubleMs < CALM_MS ? Number.NEGATIVE_INFINITY : now - CALM_MS;
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
    this.#gaps.isForgiven = true;
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

  #start(lanes: Lanes): Promise<Life> {
    return startLife({
      ...{ dir: this.#dir, plan: this.#plan, lanes, number: ++this.#lives, boot: this.#boots },
      ...{ disk: this.#disk, volatile: this.#volatile, clock: this.#clock, random: this.#random },
      log: (part) => this.#log(part),
    });
  }

  /** What must be true whenever all that was due has run. */
  #look(): void {
    const life = this.#life;
    const now = this.#now();
    this.#disk.look();
    if (this.#disk.syncMs > 0) this.#slowUntilMs = now.monotonicMs;
    const sinceMs = this.#onDiskSinceMs();
    this.#unsynced = this.#unsynced.filter(({ ms }) => ms > sinceMs);
    this.#promises.timePassed(now);
    const stats = life.outbox.stats();
    for (const [name, ofLane] of Object.entries(stats.lanes)) {
      const bounds = life.lanes[name as LaneName];
      if (name !== "gap") checkBounds(name, ofLane, bounds, life.base[name]);
    }
    for (const [name, count] of countsOf(life.outbox)) this.#count(life, name, count);
    if (stats.quarantined > 0) this.#lookAtParked(life);
    this.#checkRefusals(life);
    checkAccounts(life, (text) => this.#promises.messages.get(text)?.lane);
    this.#checkAnswers(life, now);
  }

  #count(life: Life, name: string, count: number): void {
    const [lane, reason] = name.split(" ") as [LaneName, string];
    const more = count - (life.counted.get(name) ?? 0);
    life.counted.set(name, count);
    if (reason === "replaced") {
      this.#seen.replaced += more;
      return;
    }
    this.#promises.dropped(lane, reason, more, this.#now());
    this.#gaps.counted(lane, reason, more);
    this.#seen.dropped += more;
  }

  /** What the service refuses is found by few connections, where nothing else closes them. */
  #checkRefusals(life: Life): void {
    const { refused, refusals, otherCloses } = this.#service;
    if (refused === undefined || refusals === 0 || life.parkedTopics.has(refused)) return;
    const { messages } = this.#promises;
    const wentThrough = [...life.acknowledged].some(
      (text) => messages.get(text)?.topic === refused,
    );
    const most = wentThrough || otherCloses > 0 ? MOST_REFUSALS : REFUSALS;
    assert(refusals <= most, `${refusals} connections, and ${refused} is not in quarantine`);
  }

  /** In quarantine is only what the service refuses, or seems to. */
  #lookAtParked(life: Life): void {
    const { outbox } = life;
    const { everRefused, hasReset } = this.#service;
    const byId = new Map(outbox.quarantine.list(undefined, 1e6).items.map((one) => [one.id, one]));
    this.#seen.parked = Math.max(this.#seen.parked, byId.size);
    for (const { topic, id } of byId.values()) {
      life.parkedTopics.add(topic);
      if (everRefused.has(topic)) continue;
      // A link that resets seven times in a row looks like a refusal; with a history of an hour it
      // does not (unit/outbox/quarantine.test.ts). It is rare, and the sample counts how rare.
      assert(hasReset, `${id} of ${topic} is in quarantine, nobody refused it`);
      this.#wronged.add(topic);
    }
    for (const message of this.#promises.messages.values()) {
      const its = byId.get(message.id as `${string}-${number}`);
      if (its && message.parked !== "alone")
        message.parked = its.scope === "topic" ? "topic" : "alone";
    }
  }

  /** One that gives way to a newer message of its key is answered as that is. */
  #answersWithMs({ lane, key, putAt }: Tracked): number {
    const newer = this.#life.put.filter((one) => one.lane === lane && one.key === key);
    const times = key === undefined ? [] : newer.map((one) => one.putAt.monotonicMs);
    return Math.max(putAt.monotonicMs, ...times);
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
    const patienceMs = this.#service.link ? this.#plan.persistDelayMs + SYNC_MS : 0;
    for (const message of life.waiting) {
      const { text, putAt } = message;
      const dueMs = this.#answersWithMs(message);
      const sinceMs = this.#service.link ? dueMs : Math.max(dueMs, this.#service.offlineSinceMs);
      assert(
        now - sinceMs <= patienceMs || now === sinceMs,
        `the put of ${text} has no answer after ${now - putAt.monotonicMs} ms`,
      );
    }
  }

  /** From here on nothing fails; what the service refuses it still refuses. */
  async #heal(): Promise<void> {
    this.#trace("everything heals");
    this.#disk.heal();
    this.#service.heal();
    await this.#drain(() => true);
  }

  async #drain(isDone: () => boolean): Promise<void> {
    const life = this.#life;
    for (let round = 0; round < 400; round++) {
      while (this.#service.acknowledge(0)) {}
      await this.#clock.advance(100);
      this.#look();
      const { lanes } = life.outbox.stats();
      const left = Object.values(lanes).reduce((sum, { messages }) => sum + messages, 0);
      const isIdle = left === 0 && life.forwarder.inFlight === 0 && life.waiting.size === 0;
      if (isIdle && isDone()) return;
    }
    const state = JSON.stringify(life.outbox.stats());
    throw new Error(`it did not drain after everything had healed: ${state}`);
  }

  async #checkEnd(): Promise<void> {
    const life = this.#life;
    await this.#checkParked(life);
    await this.#hearReports();
    this.#gaps.check(this.#promises.checkDelivered(this.#plan.window));
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

  /** All that did not come is in quarantine; when the service takes it, it comes. */
  async #checkParked({ outbox }: Life): Promise<void> {
    if (outbox.stats().quarantined === 0) return;
    this.#service.refuse(undefined);
    outbox.quarantine.retry();
    await this.#drain(() => outbox.stats().quarantined === 0);
  }

  /** Gaps are reported when nothing more is lost for a while. */
  async #hearReports(): Promise<void> {
    for (let second = 0; second < 12; second++) {
      await this.#clock.advance(1_000);
      await this.#drain(() => true);
    }
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

import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import type { Component } from "../core/component.ts";
import { HoldfastError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import {
  type Batch,
  type IdRange,
  messageId,
  type OutgoingMessage,
  type Receipt,
} from "../core/message.ts";
import type { Random } from "../core/random.ts";
import { ulid } from "../core/random.ts";
import { Wakeup } from "../core/wakeup.ts";
import { isImportant, type Store, type VolatileLog, type Write } from "../store/store.ts";
import { Backlog } from "./backlog.ts";
import { emptyBatch, toBatch } from "./batch.ts";
import { collect } from "./collecting.ts";
import { Committer } from "./committer.ts";
import { type DrainedRange, drainedRanges } from "./drained.ts";
import { encodeMessage } from "./encoding.ts";
import { answer, type Entry } from "./entry.ts";
import { Eviction } from "./eviction.ts";
import { type GapOptions, GapReporter } from "./gap-reporter.ts";
import { InFlight, type Settling, type Taken } from "./in-flight.ts";
import type { Lane, LaneOptions } from "./lane.ts";
import { Lanes } from "./lanes.ts";
import { RecentLatency } from "./latency.ts";
import { type Loss, Losses, type LossReason } from "./losses.ts";
import { bits } from "./masks.ts";
import type {
  Accusation,
  InFlightId,
  Outbox,
  OutboxPage,
  OutboxStats,
  Reservation,
  Staged,
  TakeLimit,
  TakenBatch,
  TrialOutcome,
} from "./port.ts";
import { type ProducerNote, ProducerNotes } from "./producer-notes.ts";
import { Quarantine } from "./quarantine.ts";
import { idOf, type Parked } from "./quarantine-case.ts";
import type { RecordTime } from "./record.ts";
import { Records } from "./records.ts";
import { type LetGo, SettleNotes } from "./settle-notes.ts";
import { Staging } from "./staging.ts";
import { Succession } from "./succession.ts";

export interface OutboxOptions {
  readonly lanes: Readonly<Record<string, LaneOptions>>;
  /** Upper bound of how long an acceptance may wait for the service instead of the disk. */
  readonly persistDelayMs: number;
  /** Settlements that may be noted late; what a power cut can repeat. */
  readonly settleEvery: number;
  /** Throws `topic_invalid` or `topic_too_long`. */
  readonly checkTopic: (topic: string) => void;
  readonly bootId: string;
  /** The source of CloudEvents; needed where a lane has them. */
  readonly clientId?: string;
  /** Where gaps are reported to; without it they are only counted. */
  readonly gaps?: GapOptions;
}

export interface OutboxDeps {
  readonly store: Store;
  /** Survives a kill of the process; holds what was settled and is not committed yet. */
  readonly volatileLog: VolatileLog;
  /** As the other one; holds producers' ids of what was delivered. Without it a kill forgets them. */
  readonly producerLog?: VolatileLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** Messages held in memory because neither disk nor service has them; then `too_many`. */
const UNSAFE_BYTES = 32 * 1024 * 1024;
/** What ordinary messages may have of it, so that they never keep out an alarm or a reply. */
const UNSAFE_ORDINARY_BYTES = 28 * 1024 * 1024;
/** What a lane keeps in memory of messages that are on disk. */
const TAIL_BYTES = 512 * 1024;

/** See the head of `outbox.ts`. */
export class DurableOutbox implements Outbox, Component {
  readonly name = "outbox";
  readonly epoch: string;
  readonly #options: OutboxOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #lanes: Lanes;
  readonly #records: Records;
  readonly #notes: SettleNotes;
  readonly #producerNotes: ProducerNotes | undefined;
  readonly #losses: Losses;
  readonly #gaps: GapReporter | undefined;
  readonly #committer: Committer;
  readonly quarantine: Quarantine;
  readonly #eviction: Eviction;
  readonly #succession: Succession;
  readonly #staging: Staging;
  readonly #backlog: Backlog;
  readonly #inFlight = new InFlight();
  readonly #latency = new RecentLatency();
  readonly #readable = new Wakeup();
  #online = false;
  #onlineSinceMs: number | undefined;
  #lastSeq = 0;
  #elided = 0;
  #state: "new" | "running" | "stopped" = "new";
  readonly #life = new AbortController();

  constructor(options: OutboxOptions, deps: OutboxDeps) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#log = deps.log.child("outbox");
    this.epoch = ulid(deps.clock.wallMs(), deps.random);
    this.#lanes = new Lanes(options.lanes);
    this.#records = new Records(deps.store, this.#log);
    this.#notes = new SettleNotes(deps.volatileLog);
    this.#producerNotes = deps.producerLog && new ProducerNotes(deps.producerLog);
    this.#losses = new Losses(deps.store);
    const gapDeps = { ...deps, outbox: this, losses: this.#losses, log: this.#log };
    this.#gaps = options.gaps && new GapReporter(options.gaps, gapDeps);
    this.quarantine = new Quarantine({
      ...{ store: deps.store, clock: deps.clock, log: this.#log, epoch: this.epoch },
      now: () => this.#now(),
      laneOf: (name) => this.#lanes.ofRecord(name),
      onParked: (entry) => this.#parked(entry),
      onLost: (parked, reason, deletion) => this.#lost(parked, reason, deletion),
      wake: () => this.#readable.notify(),
    });
    this.#committer = new Committer(
      {
        epoch: this.epoch,
        persistDelayMs: options.persistDelayMs,
        settleEvery: options.settleEvery,
      },
      {
        store: deps.store,
        records: this.#records,
        clock: deps.clock,
        log: this.#log,
        latency: this.#latency,
        onStored: (entry) => this.#stored(entry),
        notes: this.#notes,
        losses: this.#losses,
        onNoted: () => this.#readable.notify(),
        onRefused: (entry, error) => this.#refused(entry, error),
      },
    );
    const parts = { ...deps, log: this.#log, records: this.#records, committer: this.#committer };
    this.#backlog = new Backlog({
      ...parts,
      onDamaged: (dropped) => this.#eviction.droppedUnread(dropped, "damage"),
    });
    this.#eviction = new Eviction({
      ...parts,
      quarantine: this.quarantine,
      now: () => this.#now(),
      isRunning: () => this.#state === "running",
      load: (lane) => this.#backlog.load(lane),
      countLoss: (loss) => this.countLoss(loss),
      letGo: (entry, why) => {
        this.#noteProducer(entry);
        this.#letGo(entry, why);
      },
    });
    this.#succession = new Succession({
      ...parts,
      letGo: (entry, why) => this.#letGo(entry, why),
    });
    this.#staging = new Staging({
      ...parts,
      epoch: this.epoch,
      eviction: this.#eviction,
      newEntry: (lane, message, packet) => this.#newEntry(lane, message, packet, undefined),
      onCommitted: (entry) => this.#staged(entry),
    });
  }

  async start(): Promise<void> {
    if (this.#state !== "new") return;
    await this.#losses.load(this.#clock.monotonicMs());
    this.#rememberNoted();
    const { changed, losses } = await this.#records.load({
      laneOf: (name) => this.#lanes.ofRecord(name),
      known: this.#lanes.names,
      noted: this.#notes.read(),
    });
    for (const { record, letGo } of changed) {
      for (const part of letGo) this.#committer.noteLetGo(record, part);
      // Each of them may come again after a power cut, so they count as what is settled now does.
      this.#committer.noteGone(record, bits(record.gone));
    }
    this.#notes.restart();
    this.#producerNotes?.restart(this.#rememberedIds());
    for (const loss of losses) this.countLoss(loss);
    for (const lane of this.#lanes.byPriority) {
      if (lane.messages > 0) {
        this.#log.info("backlog found", { lane: lane.name, messages: lane.messages });
      }
    }
    await this.quarantine.load();
    this.#committer.start(this.#life.signal);
    this.quarantine.start(this.#life.signal);
    this.#state = "running";
  }

  /** Everything that was put is on disk and noted when this resolves, or the deadline came first. */
  async stop(deadline: AbortSignal): Promise<void> {
    if (this.#state !== "running") return;
    this.#state = "stopped";
    this.setOnline(false);
    await this.#committer.stop(deadline);
    this.#life.abort();
    await this.quarantine.stopped();
  }

  async put(message: OutgoingMessage): Promise<Receipt> {
    this.#requireRunning();
    const lane = this.#lanes.of(message);
    const earlier = message.producerId === undefined ? undefined : lane.earlier(message.producerId);
    if (earlier !== undefined) return earlier;
    const packet = this.#encode(lane, message);
    const unsafeBytes = isImportant(lane.options.priority) ? UNSAFE_BYTES : UNSAFE_ORDINARY_BYTES;
    if (this.#committer.unsafeBytes + packet.length > unsafeBytes) {
      throw new HoldfastError("too_many", "Too many messages wait for the disk at once.");
    }
    this.#eviction.makeRoomIn(lane, packet.length, message.key);
    const receipt = new Promise<Receipt>((resolve, reject) => {
      const entry = this.#newEntry(lane, message, packet, { resolve, reject });
      this.#succession.supersede(entry);
      this.#append(entry);
      this.#committer.add(entry);
    });
    if (message.producerId !== undefined) {
      lane.remember(message.producerId, this.epoch, this.#lastSeq, receipt);
    }
    return receipt;
  }

  reserve(laneName: string, bytes: number): Reservation | undefined {
    const lane = this.#state === "running" ? this.#lanes.open(laneName) : undefined;
    return lane && this.#staging.reserve(lane, bytes);
  }

  stage(message: OutgoingMessage, reservation?: Reservation): Staged {
    const lane = this.#lanes.of(message);
    return this.#staging.stage(lane, message, this.#encode(lane, message), reservation);
  }

  async take(limit: TakeLimit, signal: AbortSignal): Promise<TakenBatch> {
    for (;;) {
      if (signal.aborted || this.#state !== "running") return emptyBatch;
      if (this.#msToQuarantine(limit) === 0) {
        const now = this.#clock.monotonicMs();
        const entry = await this.quarantine.prepare(now, limit.trial === true);
        if (entry) return { ...this.#hand([entry]), trial: true };
      }
      if (this.#committer.behind) {
        await this.#readable.wait(signal);
        continue;
      }
      const { taken, load, retryMs } = collect(this.#lanes.shares, limit, this.#now(), {
        quarantine: this.quarantine,
        expire: (entry) => this.#eviction.drop(entry, "ttl"),
      });
      if (taken.length > 0) return this.#hand(taken);
      if (load) await this.#backlog.load(load);
      else await this.#waitForMore(Math.min(retryMs, this.#msToQuarantine(limit)), signal);
    }
  }

  settle(ids: readonly IdRange[]): void {
    let takenMs: number | undefined;
    for (const range of ids) takenMs = this.#inFlight.settle(range, this.#settling) ?? takenMs;
    this.#notes.flush();
    this.#producerNotes?.flush(() => this.#rememberedIds());
    if (takenMs !== undefined) this.#latency.add(this.#clock.monotonicMs() - takenMs);
    if (this.quarantine.messages > 0) this.#readable.notify(); // One of it may be tried now.
  }

  setAside(accusation: Accusation, messages: readonly InFlightId[]): void {
    this.quarantine.accuse(
      accusation,
      messages.map((id) => this.#inFlight.remove(id)).filter((entry) => entry !== undefined),
    );
  }

  trialEnded(message: InFlightId, outcome: TrialOutcome): void {
    const entry = this.#inFlight.remove(message);
    if (entry) this.quarantine.trialEnded(entry, outcome);
    this.#readable.notify();
  }

  setOnline(online: boolean): void {
    if (online !== this.#online)
      this.#onlineSinceMs = online ? this.#clock.monotonicMs() : undefined;
    this.#online = online;
    this.#committer.setOnline(online);
  }

  /** Something was lost that must be reported (I13); it is on disk within a second. */
  countLoss(loss: Loss): void {
    this.#losses.count(loss, this.#clock.monotonicMs());
    this.#committer.noteChange();
  }

  /**
   * Lets the oldest messages go, of the least important lanes first, until so many bytes are free;
   * lanes that refuse keep theirs. Gives the bytes of what it let go: the disk has them back after
   * a commit and a compaction.
   */
  makeRoom(bytes: number, reason: "quota"): number {
    return this.#eviction.free(this.#lanes.byPriority, bytes, reason);
  }

  /** What `makeRoom` could give at most. */
  get droppableBytes(): number {
    const dropping = this.#lanes.byPriority.filter(
      ({ options }) => options.whenFull === "drop-oldest",
    );
    return dropping.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Keys of the table `outbox` that hold nothing any more. */
  drainedRanges(): readonly DrainedRange[] {
    return drainedRanges(this.#lanes.byPriority, this.#inFlight.records());
  }

  /** What is to be done every few seconds: lets go of what lived too long, reports gaps. */
  async tidy(): Promise<void> {
    if (this.#state !== "running") return;
    for (const lane of this.#lanes.byPriority) await this.#eviction.sweep(lane);
    await this.#gaps?.report(this.#onlineSinceMs);
  }

  /** What waits on disk; messages younger than the persist delay are not in it yet. */
  list(cursor: string | undefined, limit: number): Promise<OutboxPage> {
    return this.#records.page(cursor, limit);
  }

  stats(): OutboxStats {
    return {
      lanes: this.#lanes.stats(this.#now()),
      inFlight: this.#inFlight.size,
      quarantined: this.quarantine.messages,
      persisted: this.#committer.persisted,
      elided: this.#elided,
    };
  }

  /** Before the records are listed: what is in them is younger than most of what was delivered. */
  #rememberNoted(): void {
    for (const { lane: name, producerId, epoch, seq } of this.#producerNotes?.read() ?? []) {
      const id = messageId(epoch, seq);
      const receipt = Promise.resolve<Receipt>({ id, seq, safe: "disk" });
      this.#lanes.get(name)?.remember(producerId, epoch, seq, receipt);
    }
  }

  #rememberedIds(): ProducerNote[] {
    return this.#lanes.byPriority.flatMap((lane) => lane.producerNotes);
  }

  /** It leaves the store: its producer's id, which its record had, is noted elsewhere. */
  #noteProducer({ producerId, lane, epoch, seq }: Entry): void {
    if (producerId !== "") this.#producerNotes?.add({ lane: lane.name, producerId, epoch, seq });
  }

  #requireRunning(): void {
    if (this.#state !== "running") throw new HoldfastError("stopped", "The outbox is stopped.");
  }

  /** The packet of the next message. */
  #encode(lane: Lane, message: OutgoingMessage): Uint8Array {
    const { checkTopic, clientId = "" } = this.#options;
    const id = messageId(this.epoch, this.#lastSeq + 1);
    const timeMs = this.#clock.trusted() ? this.#clock.wallMs() : undefined;
    return encodeMessage(lane, message, { id, clientId, timeMs, checkTopic });
  }

  #newEntry(
    lane: Lane,
    message: OutgoingMessage,
    packet: Uint8Array,
    waiting: Entry["waiting"],
  ): Entry {
    return {
      epoch: this.epoch,
      seq: ++this.#lastSeq,
      lane,
      packet,
      ttlMs: message.ttlMs ?? lane.options.ttlMs,
      key: message.key ?? "",
      producerId: message.producerId ?? "",
      acceptedAt: this.#now(),
      place: "fresh",
      taken: false,
      takenMs: 0,
      record: undefined,
      indexInRecord: 0,
      section: lane.section,
      waiting,
    };
  }

  #append(entry: Entry): void {
    entry.lane.messages++;
    entry.lane.bytes += entry.packet.length;
    entry.lane.append(entry);
    this.#readable.notify();
  }

  #now(): RecordTime {
    return {
      bootId: this.#options.bootId,
      monotonicMs: this.#clock.monotonicMs(),
      wallMs: this.#clock.wallMs(),
      trusted: this.#clock.trusted(),
    };
  }

  #hand(taken: readonly Taken[]): Batch {
    this.#inFlight.add(taken, this.#clock.monotonicMs());
    return toBatch(taken);
  }

  /** Until there is something new, or a lane that could not be read is to be tried again. */
  #waitForMore(retryMs: number, signal: AbortSignal): Promise<void> {
    return this.#readable.waitAtMost(retryMs, this.#clock, signal);
  }

  #msToQuarantine({ trial = false }: TakeLimit): number {
    return Math.max(0, this.quarantine.dueMs(trial) - this.#clock.monotonicMs());
  }

  /** The quarantine has it on disk: it is safe there, and not ours any more. */
  #parked(entry: Entry): void {
    if (entry.place === "gone") return;
    answer(entry, "disk");
    if (entry.place === "fresh") this.#committer.forget(entry);
    this.#letGo(entry);
  }

  /** The quarantine let it go; the deletion and the count of it are one commit. */
  #lost(parked: Parked, reason: LossReason, deletion: Write): void {
    const { lane, bytes, at } = parked;
    this.#lanes.get(lane)?.countDropped(reason, 1);
    const end = { id: idOf(parked), at };
    const loss = { messages: 1, bytes, from: end, to: end, exact: true };
    this.#committer.also(deletion);
    this.countLoss({ lane, reason, ...loss });
  }

  #release(entry: Entry): void {
    if (entry.held !== true) return;
    entry.held = false;
    this.#readable.notify();
  }

  readonly #settling: Settling = {
    entry: (entry) => this.#settled(entry),
    slice: (slice, mask) => {
      this.#records.settleSlice(slice, mask);
      this.#committer.noteGone(slice.run.record, bits(mask));
    },
  };

  #settled(entry: Entry): void {
    answer(entry, "broker");
    this.#succession.replace(entry);
    this.#noteProducer(entry);
    if (entry.place === "fresh") {
      this.#elided++;
      this.#committer.forget(entry);
    }
    this.#letGo(entry);
  }

  /** The message is not ours any more: settled, or let go for a reason. */
  #letGo(entry: Entry, why?: LetGo["why"]): void {
    assert(entry.place !== "gone", "a message goes once");
    if (this.quarantine.owns(entry)) {
      entry.place = "gone";
      this.quarantine.left(entry);
      return;
    }
    const { lane, record } = entry;
    lane.messages--;
    lane.bytes -= entry.packet.length;
    const { place } = entry;
    entry.place = "gone";
    if (!record) return;
    if (place === "writing") this.#committer.noteEarly(record.number, 1 << entry.indexInRecord);
    if (place !== "stored") return;
    this.#records.markGone(entry, record);
    if (why) this.#committer.noteLetGo(record, { why, mask: 1 << entry.indexInRecord });
    else this.#committer.noteGone(record);
  }

  /** The commit that it was staged for is on disk: it takes its place in its stream now. */
  #staged(entry: Entry): void {
    const { lane } = entry;
    lane.section++;
    entry.place = "stored";
    this.#committer.countPersisted(1);
    this.#succession.supersede(entry);
    this.#succession.replace(entry);
    lane.append(entry);
    lane.spill(TAIL_BYTES);
    this.#readable.notify();
  }

  /** The disk has it. */
  #stored(entry: Entry): void {
    if (entry.place === "gone") {
      // Settled while it was being written.
      if (entry.record) {
        this.#records.markGone(entry, entry.record);
        this.#committer.noteGone(entry.record);
      }
      return;
    }
    entry.place = "stored";
    answer(entry, "disk");
    this.#succession.replace(entry);
    this.#release(entry);
    entry.lane.spill(TAIL_BYTES);
  }

  /**
   * The disk does not take it. While online it may still become safe at the service; offline its
   * put is refused. One that was sent already stays ours, because it will be sent again.
   */
  #refused(entry: Entry, error: HoldfastError): "wait" | "refused" {
    if (entry.place === "gone") return "refused";
    if (this.#online) {
      this.#release(entry);
      return "wait";
    }
    answer(entry, error);
    if (entry.taken) return "wait";
    entry.lane.latest?.refused(entry);
    this.#letGo(entry);
    return "refused";
  }
}

import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import type { Component } from "../core/component.ts";
import { describeError, HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import type { Logger } from "../core/log.ts";
import {
  type Batch,
  type IdRange,
  messageId,
  type OutgoingMessage,
  type Receipt,
} from "../core/message.ts";
import { encodePublish } from "../core/publish-packet.ts";
import type { Random } from "../core/random.ts";
import { ulid } from "../core/random.ts";
import { Wakeup } from "../core/wakeup.ts";
import { isImportant, type Store, type VolatileLog, type Write } from "../store/store.ts";
import { emptyBatch, toBatch } from "./batch.ts";
import { cloudEventSource, encodeCloudEvent } from "./cloudevents.ts";
import { Committer } from "./committer.ts";
import { type DrainedRange, drainedRanges } from "./drained.ts";
import { answer, type Entry, isOver, provenAgeMs } from "./entry.ts";
import { type GapOptions, GapReporter } from "./gap-reporter.ts";
import { InFlight, type Settling, type Taken } from "./in-flight.ts";
import { Lane, type LaneOptions } from "./lane.ts";
import { RecentLatency } from "./latency.ts";
import { placeOf, replacedBy } from "./latest.ts";
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
import { type Dropped, Records } from "./records.ts";
import { isRunOver, packetBytes, takeSlice } from "./run.ts";
import { type LetGo, SettleNotes } from "./settle-notes.ts";
import { FairShare } from "./share.ts";

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
/** Between two attempts to read a backlog that the disk does not give. */
const READ_RETRY_MS = 1_000;
/** Looks at the disk for messages that lived too long, each time and for each lane. */
const SWEEP_READS = 8;
/** What a lane keeps in memory of messages that are on disk. */
const TAIL_BYTES = 512 * 1024;

/** See the head of `outbox.ts`. */
export class DurableOutbox implements Outbox, Component {
  readonly name = "outbox";
  readonly epoch: string;
  readonly #options: OutboxOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #lanes = new Map<string, Lane>();
  #byPriority: Lane[] = [];
  /** One for each priority, the most important first. */
  #shares: FairShare<Lane>[] = [];
  readonly #records: Records;
  readonly #notes: SettleNotes;
  readonly #producerNotes: ProducerNotes | undefined;
  readonly #losses: Losses;
  readonly #gaps: GapReporter | undefined;
  readonly #committer: Committer;
  readonly quarantine: Quarantine;
  /** Those neither used nor released. */
  readonly #reservations = new Set<Reservation>();
  readonly #inFlight = new InFlight();
  /** Full lanes in which room is looked for. */
  readonly #sweeping = new Set<Lane>();
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
    for (const [name, lane] of Object.entries(options.lanes)) this.#addLane(name, lane);
    this.#records = new Records(deps.store, this.#log);
    this.#notes = new SettleNotes(deps.volatileLog);
    this.#producerNotes = deps.producerLog && new ProducerNotes(deps.producerLog);
    this.#losses = new Losses(deps.store);
    const gapDeps = { ...deps, outbox: this, losses: this.#losses, log: this.#log };
    this.#gaps = options.gaps && new GapReporter(options.gaps, gapDeps);
    this.quarantine = new Quarantine({
      ...{ store: deps.store, clock: deps.clock, log: this.#log, epoch: this.epoch },
      now: () => this.#now(),
      laneOf: (name) => this.#lanes.get(name) ?? this.#addLane(name, ORPHAN_LANE),
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
  }

  async start(): Promise<void> {
    if (this.#state !== "new") return;
    await this.#losses.load(this.#clock.monotonicMs());
    this.#rememberNoted();
    const { changed, losses } = await this.#records.load({
      laneOf: (name) => this.#lanes.get(name) ?? this.#addLane(name, ORPHAN_LANE),
      known: [...this.#lanes.keys()],
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
    for (const lane of this.#lanes.values()) {
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
    const lane = this.#laneOf(message);
    const earlier = message.producerId === undefined ? undefined : lane.earlier(message.producerId);
    if (earlier !== undefined) return earlier;
    const packet = this.#encode(lane, message);
    const unsafeBytes = isImportant(lane.options.priority) ? UNSAFE_BYTES : UNSAFE_ORDINARY_BYTES;
    if (this.#committer.unsafeBytes + packet.length > unsafeBytes) {
      throw new HoldfastError("too_many", "Too many messages wait for the disk at once.");
    }
    this.#makeRoom(lane, packet.length, message.key);
    const receipt = new Promise<Receipt>((resolve, reject) => {
      const entry = this.#newEntry(lane, message, packet, { resolve, reject });
      this.#supersede(entry);
      this.#append(entry);
      this.#committer.add(entry);
    });
    if (message.producerId !== undefined) {
      lane.remember(message.producerId, this.epoch, this.#lastSeq, receipt);
    }
    return receipt;
  }

  reserve(laneName: string, bytes: number): Reservation | undefined {
    const lane = this.#lanes.get(laneName);
    if (!lane || !Object.hasOwn(this.#options.lanes, laneName)) return undefined;
    if (this.#state !== "running") return undefined;
    const hasRoom = (): boolean => lane.hasRoomFor(1, bytes);
    if (!hasRoom() && !this.#expireForRoom(lane, hasRoom)) return undefined;
    lane.reservedMessages++;
    lane.reservedBytes += bytes;
    const reservation: Reservation = {
      lane: laneName,
      bytes,
      release: () => {
        if (!this.#reservations.delete(reservation)) return;
        lane.reservedMessages--;
        lane.reservedBytes -= bytes;
      },
    };
    this.#reservations.add(reservation);
    return reservation;
  }

  stage(message: OutgoingMessage, reservation?: Reservation): Staged {
    const lane = this.#laneOf(message);
    const packet = this.#encode(lane, message);
    const reserved =
      reservation !== undefined &&
      this.#reservations.has(reservation) &&
      reservation.lane === lane.name &&
      reservation.bytes >= packet.length;
    if (!reserved) this.#makeRoom(lane, packet.length, message.key);
    reservation?.release();
    const entry = this.#newEntry(lane, message, packet, undefined);
    entry.place = "writing";
    lane.messages++;
    lane.bytes += packet.length;
    const write = this.#records.write([entry], this.epoch);
    let open = true;
    const once = (action: () => void) => () => {
      assert(open, "a staged message is committed or abandoned once");
      open = false;
      action();
    };
    return {
      id: messageId(entry.epoch, entry.seq),
      writes: [write],
      committed: once(() => {
        lane.section++;
        entry.place = "stored";
        this.#committer.countPersisted(1);
        this.#supersede(entry);
        this.#replace(entry);
        lane.append(entry);
        lane.spill(TAIL_BYTES);
        this.#readable.notify();
      }),
      abandoned: once(() => {
        entry.place = "gone";
        lane.messages--;
        lane.bytes -= packet.length;
      }),
    };
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
      const { taken, load, retryMs } = this.#collect(limit);
      if (taken.length > 0) return this.#hand(taken);
      if (load) await this.#load(load);
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
    let freed = 0;
    for (const lane of [...this.#byPriority].reverse()) {
      if (lane.options.whenFull !== "drop-oldest") continue;
      const before = lane.bytes;
      while (freed + before - lane.bytes < bytes && this.#dropOldest(lane, reason)) {}
      freed += before - lane.bytes;
    }
    return freed;
  }

  /** What `makeRoom` could give at most. */
  get droppableBytes(): number {
    const dropping = this.#byPriority.filter(({ options }) => options.whenFull === "drop-oldest");
    return dropping.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Keys of the table `outbox` that hold nothing any more. */
  drainedRanges(): readonly DrainedRange[] {
    return drainedRanges(this.#lanes.values(), this.#inFlight.records());
  }

  /** What is to be done every few seconds: lets go of what lived too long, reports gaps. */
  async tidy(): Promise<void> {
    if (this.#state !== "running") return;
    for (const lane of this.#byPriority) await this.#sweep(lane);
    await this.#gaps?.report(this.#onlineSinceMs);
  }

  /** What waits on disk; messages younger than the persist delay are not in it yet. */
  list(cursor: string | undefined, limit: number): Promise<OutboxPage> {
    return this.#records.page(cursor, limit);
  }

  stats(): OutboxStats {
    const now = this.#now();
    const lanes: Record<string, OutboxStats["lanes"][string]> = {};
    for (const lane of this.#byPriority) {
      const { messages, bytes } = lane;
      const { oldest } = lane;
      const oldestAgeMs = oldest && messages > 0 ? provenAgeMs(oldest, now) : 0;
      lanes[lane.name] = {
        ...{ messages, bytes, oldestAgeMs, dropped: { ...lane.dropped } },
        ...(lane.latest && { replaced: lane.replaced }),
      };
    }
    return {
      lanes,
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
    return this.#byPriority.flatMap((lane) => lane.producerNotes);
  }

  /** It leaves the store: its producer's id, which its record had, is noted elsewhere. */
  #noteProducer({ producerId, lane, epoch, seq }: Entry): void {
    if (producerId !== "") this.#producerNotes?.add({ lane: lane.name, producerId, epoch, seq });
  }

  #requireRunning(): void {
    if (this.#state !== "running") throw new HoldfastError("stopped", "The outbox is stopped.");
  }

  #addLane(name: string, options: LaneOptions): Lane {
    const lane = new Lane(name, options);
    this.#lanes.set(name, lane);
    this.#byPriority = [...this.#lanes.values()].sort(
      (a, b) => a.options.priority - b.options.priority,
    );
    const groups = Map.groupBy(this.#byPriority, ({ options: { priority } }) => priority);
    this.#shares = [...groups.values()].map(
      (lanes) => new FairShare(lanes.map((item) => ({ item, weight: item.options.share ?? 1 }))),
    );
    return lane;
  }

  #laneOf(message: OutgoingMessage): Lane {
    const lane = this.#lanes.get(message.lane);
    if (lane && Object.hasOwn(this.#options.lanes, message.lane)) return lane;
    const known = Object.keys(this.#options.lanes).join(", ");
    throw new HoldfastError(
      "lane_unknown",
      `There is no lane "${message.lane}"; there are ${known}.`,
    );
  }

  /** The packet of the next message. */
  #encode(lane: Lane, message: OutgoingMessage): Uint8Array {
    this.#options.checkTopic(message.topic);
    const payload = this.#envelope(lane, message);
    if (payload.length > limits.payloadBytes) {
      const text = `The payload has ${payload.length} bytes; the service takes ${limits.payloadBytes}.`;
      throw new HoldfastError("payload_too_large", text, { details: { bytes: payload.length } });
    }
    for (const text of [message.key ?? "", message.producerId ?? ""]) {
      if (Buffer.byteLength(text) > 255) {
        throw new HoldfastError("message_invalid", "A key or producer id has at most 255 bytes.");
      }
    }
    return encodePublish(message.topic, payload).bytes;
  }

  #envelope({ name, options }: Lane, { topic, payload }: OutgoingMessage): Uint8Array {
    if (options.payload !== "cloudevents") return payload;
    return encodeCloudEvent({
      id: messageId(this.epoch, this.#lastSeq + 1),
      source: cloudEventSource(this.#options.clientId ?? ""),
      type: `holdfast.${name}`,
      subject: topic,
      timeMs: this.#clock.trusted() ? this.#clock.wallMs() : undefined,
      payload,
    });
  }

  #makeRoom(lane: Lane, bytes: number, key = ""): void {
    // What could not fit in an empty lane must not empty it.
    const drops = lane.options.whenFull === "drop-oldest" && lane.couldHold(1, bytes);
    const hasRoom = (): boolean => {
      const old = lane.latest?.current(key);
      return old ? lane.hasRoomFor(0, bytes - old.bytes) : lane.hasRoomFor(1, bytes);
    };
    while (!hasRoom()) {
      if (drops && this.#dropOldest(lane, "full")) continue;
      if (!drops && this.#expireForRoom(lane, hasRoom)) return;
      const text = `The lane ${lane.name} is full: ${lane.messages} messages, ${lane.bytes} bytes.`;
      throw new HoldfastError("lane_full", text, { details: { lane: lane.name } });
    }
  }

  /** False when nothing may be dropped: all the rest is in flight, promised or not yet accepted. */
  #dropOldest(lane: Lane, reason: LossReason): boolean {
    if (lane.mustLoad) {
      const record = lane.shiftStored();
      if (record) {
        this.#droppedUnread(this.#records.dropUnheld(record), reason);
        return true;
      }
    }
    const entry = lane.mustLoad ? lane.shiftTail() : lane.peek();
    if (entry?.place !== "stored") return false;
    if (!lane.mustLoad) lane.shift();
    if (this.quarantine.owns(entry)) this.quarantine.retract(entry);
    else this.#drop(entry, reason);
    return true;
  }

  #drop(entry: Entry, reason: LossReason): void {
    const { lane, packet, epoch, seq, acceptedAt } = entry;
    lane.countDropped(reason, 1);
    const end = { id: messageId(epoch, seq), at: Math.round(acceptedAt.wallMs) };
    const loss = { messages: 1, bytes: packet.length, from: end, to: end, exact: true };
    this.countLoss({ lane: lane.name, reason, ...loss });
    this.#noteProducer(entry);
    this.#letGo(entry, reason);
  }

  #droppedUnread({ record, mask, loss }: Dropped, reason: LossReason): void {
    if (loss.messages === 0) return;
    record.lane.countDropped(reason, loss.messages);
    this.countLoss({ lane: record.lane.name, reason, ...loss });
    this.#committer.noteLetGo(record, { why: reason, mask });
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

  /**
   * Untaken messages from memory in order of priority, by share among lanes of one; stops where a
   * lane has to be read first. A lane that the disk does not give now is passed over; `retryMs` says
   * when it is tried again.
   */
  #collect(limit: { messages: number; bytes: number }): {
    taken: Taken[];
    load?: Lane;
    retryMs: number;
  } {
    const taken: Taken[] = [];
    let messages = 0;
    let bytes = 0;
    let retryMs = Number.POSITIVE_INFINITY;
    const now = this.#now();
    const headBytes = (lane: Lane): number | undefined => {
      if (!lane.mustLoad) {
        const run = this.quarantine.isCalm ? lane.headRun : undefined;
        if (run) return packetBytes(run, run.next);
        const entry = lane.peek();
        const waits = this.quarantine.isFull && entry !== undefined && this.quarantine.wants(entry);
        return waits ? undefined : entry?.packet.length;
      }
      const waitMs = lane.unreadableUntilMs - now.monotonicMs;
      if (waitMs <= 0) return 0; // To be read when it is its turn.
      retryMs = Math.min(retryMs, waitMs);
      return undefined;
    };
    for (const share of this.#shares) {
      while (messages < limit.messages) {
        const lane = share.pick(headBytes);
        if (!lane) break;
        if (lane.mustLoad) return { taken, load: lane, retryMs };
        const run = this.quarantine.isCalm ? lane.headRun : undefined;
        if (run && !isRunOver(run, now)) {
          const room = limit.bytes - bytes;
          if (messages > 0 && packetBytes(run, run.next) > room) return { taken, retryMs };
          const slice = takeSlice(run, {
            messages: limit.messages - messages,
            bytes: Math.min(room, share.allowance),
          });
          if (run.next === run.record.count) lane.runs.shift();
          share.charge(slice.bytes);
          messages += slice.count;
          bytes += slice.bytes;
          taken.push(slice);
          continue;
        }
        const entry = lane.peek() as Entry;
        if (this.quarantine.wants(entry)) {
          lane.shift();
          this.quarantine.divert(entry);
          continue;
        }
        const full = messages > 0 && bytes + entry.packet.length > limit.bytes;
        if (full) return { taken, retryMs };
        lane.shift();
        if (this.#expired(entry, now)) continue;
        share.charge(entry.packet.length);
        bytes += entry.packet.length;
        messages++;
        taken.push(entry);
      }
    }
    return { taken, retryMs };
  }

  #expired(entry: Entry, now: RecordTime): boolean {
    if (!isOver(entry, now)) return false;
    this.#drop(entry, "ttl");
    return true;
  }

  /**
   * Lets go of what lived too long at the head of a lane, so that it goes also while nothing is
   * sent. On disk the lane's lifetime decides what is looked at: messages with a shorter one of
   * their own go when they are at the head in memory, or when they are taken.
   */
  async #sweep(lane: Lane, mostReads = SWEEP_READS): Promise<void> {
    for (let reads = 0; this.#state === "running"; ) {
      const now = this.#now();
      if (lane.mustLoad) {
        const oldest = lane.stored.peek();
        const ageMs = oldest ? provenAgeMs(oldest.time, now) : 0;
        const over = lane.options.ttlMs > 0 && ageMs > lane.options.ttlMs;
        if (!over || lane.unreadableUntilMs > now.monotonicMs || ++reads > mostReads) return;
        await this.#load(lane);
      } else {
        const run = lane.headRun;
        if (run && !isRunOver(run, now)) return;
        const entry = lane.peek();
        if (!entry || !isOver(entry, now)) return;
        lane.shift();
        this.#drop(entry, "ttl");
      }
    }
  }

  /**
   * A full lane that lets nothing go: what lived too long at its head makes room. What is on disk has
   * to be read first, so that who comes next finds the room.
   */
  #expireForRoom(lane: Lane, hasRoom: () => boolean): boolean {
    const now = this.#now();
    for (let entry = lane.peek(); entry && isOver(entry, now); entry = lane.peek()) {
      lane.shift();
      this.#drop(entry, "ttl");
      if (hasRoom()) return true;
    }
    if (lane.mustLoad && !this.#sweeping.has(lane)) {
      this.#sweeping.add(lane);
      this.#sweep(lane, Number.POSITIVE_INFINITY)
        .catch((error: unknown) => {
          this.#log.error("lane not swept", { lane: lane.name, error: describeError(error) });
        })
        .finally(() => this.#sweeping.delete(lane));
    }
    return false;
  }

  #hand(taken: readonly Taken[]): Batch {
    this.#inFlight.add(taken, this.#clock.monotonicMs());
    return toBatch(taken);
  }

  #load(lane: Lane): Promise<void> {
    lane.loading ??= this.#read(lane).finally(() => {
      lane.loading = undefined;
    });
    return lane.loading;
  }

  async #read(lane: Lane): Promise<void> {
    try {
      const { entries, runs, damaged } = await this.#records.read(lane);
      for (const run of runs) lane.runs.push(run);
      for (const entry of entries) {
        lane.loaded.push(entry);
        lane.latest?.loaded(entry);
      }
      for (const dropped of damaged) this.#droppedUnread(dropped, "damage");
      lane.unreadableUntilMs = 0;
    } catch (error) {
      if (lane.unreadableUntilMs === 0) {
        this.#log.warn("backlog not readable", { lane: lane.name, error: describeError(error) });
      }
      lane.unreadableUntilMs = this.#clock.monotonicMs() + READ_RETRY_MS;
    }
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

  /**
   * The message becomes the newest of its key, where the lane keeps only that. One that is nowhere
   * but in memory gives way at once; one that is on disk, or on its way there, when this one is safe,
   * because a put that is refused must not cost the message before it. Both count until then.
   */
  #supersede(entry: Entry): void {
    const { lane, key } = entry;
    if (!lane.latest || key === "") return;
    const old = lane.latest.current(key);
    lane.latest.set(key, placeOf(entry), lane.messages);
    const before = old?.entry;
    const isNew = entry.place === "fresh";
    if (before?.place !== "fresh") {
      entry.replaces = old;
      entry.held = isNew && old !== undefined;
      return;
    }
    entry.replaces = before.replaces;
    entry.held = isNew && before.held === true;
    entry.alsoWaiting = before.alsoWaiting ?? [];
    if (before.waiting) entry.alsoWaiting.push(before.waiting);
    before.waiting = undefined;
    before.alsoWaiting = undefined;
    this.#committer.forget(before);
    this.#letGo(before, "replaced");
    lane.replaced++;
    lane.sweepReplaced();
    if (!isNew) answer(entry, "disk");
  }

  /** It is safe: what it took the place of goes, unless that is in flight by now. */
  #replace(entry: Entry): void {
    if (!entry.replaces) return;
    const { lane } = entry;
    const old = replacedBy(entry);
    entry.replaces = undefined;
    if (!old) return;
    lane.replaced++;
    if (old.entry) {
      answer(old.entry, "disk");
      if (old.entry.place === "fresh") this.#committer.forget(old.entry);
      this.#letGo(old.entry, "replaced");
    } else if (old.record) {
      this.#records.dropOne(old.record, old.index, old.bytes);
      this.#committer.noteLetGo(old.record, { why: "replaced", mask: 1 << old.index });
    }
    lane.sweepReplaced();
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
    this.#replace(entry);
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
    this.#replace(entry);
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

/**
 * For records of a lane that the configuration no longer names: they are still ours to deliver, but
 * it takes no new ones.
 */
const ORPHAN_LANE: LaneOptions = {
  priority: 5,
  maxMessages: Number.MAX_SAFE_INTEGER,
  maxBytes: Number.MAX_SAFE_INTEGER,
  ttlMs: 0,
  whenFull: "drop-oldest",
};

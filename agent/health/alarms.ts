/**
 * Alarms: states with a name that somebody should know of, raised and cleared by the parts.
 *
 * Invariants
 * - Edge-triggered: a message is owed when the state or the severity changes, never because the
 *   same alarm is raised again.
 * - A change is kept in the store (synced) and owed until the outbox has accepted a message about
 *   it; refusals and restarts only delay it. A restart may repeat the last message.
 * - Flapping is bounded: at most one message per alarm and `gapMs`. It tells the latest state, and
 *   in `edges` how many changes it stands for, so that a short alarm is never silent.
 *
 * When full: more than `mostAlarms` names are refused and logged once. Store not writable: alarms
 * live in memory, are sent all the same, and are written when it takes writes again. One that never
 * reached the disk, or whose record is damaged, is raised anew by whoever sees its cause.
 *
 * `raise` and `clear` never throw and never wait, so that any part may call them at any moment,
 * also before `start`.
 */
import { backoffCeilingMs } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import type { Component } from "../core/component.ts";
import { describeError } from "../core/errors.ts";
import { LinkedAbort } from "../core/linked-abort.ts";
import type { Logger } from "../core/log.ts";
import { Wakeup } from "../core/wakeup.ts";
import type { Store, Table } from "../store/store.ts";
import { type AlarmRecord, alarmCodec, alarmPayload, type Severity } from "./alarm-record.ts";
import type { HealthOutgoing } from "./port.ts";

export interface AlarmsOptions {
  /** `<up>/alarm/<device>` */
  readonly topic: string;
  /** Least milliseconds between two messages about one alarm; default 10,000. */
  readonly gapMs?: number;
}

export interface AlarmsDeps {
  readonly store: Store;
  readonly outgoing: HealthOutgoing;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface RaisedAlarm {
  readonly alarm: string;
  readonly severity: Severity;
  readonly cause: string;
  readonly at: number;
}

interface Entry {
  record: AlarmRecord;
  /** Counts changes of `record`, to see whether one came while a message was under way. */
  version: number;
  persisted: boolean;
  /** Monotonic time of the last message. */
  toldMs: number;
}

const lane = "alarm";
const defaultGapMs = 10_000;
const retry = { minMs: 2_000, maxMs: 60_000 };
const mostAlarms = 200;
const longestName = 128;
const longestCause = 300;

export class Alarms implements Component {
  readonly name = "alarms";
  readonly #options: AlarmsOptions;
  readonly #deps: AlarmsDeps;
  readonly #log: Logger;
  readonly #table: Table<AlarmRecord>;
  readonly #entries = new Map<string, Entry>();
  /** Calls that came before the kept alarms were read. */
  #early: (() => void)[] | undefined = [];
  readonly #listeners = new Set<() => void>();
  readonly #wakeup = new Wakeup();
  readonly #life = new AbortController();
  #started = false;
  #loop: Promise<void> | undefined;
  #failures = 0;
  #fullLogged = false;

  constructor(options: AlarmsOptions, deps: AlarmsDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#log = deps.log.child("alarms");
    this.#table = deps.store.table("alarms", alarmCodec);
  }

  /** Reads the kept alarms; those whose message is owed are sent. */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#started) return;
    this.#started = true;
    await this.#load();
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const call of early) call();
    this.#loop = this.#run(AbortSignal.any([signal, this.#life.signal]));
  }

  async stop(deadline: AbortSignal): Promise<void> {
    this.#life.abort();
    const late = new Promise<void>((resolve) => {
      if (deadline.aborted) resolve();
      deadline.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([this.#loop, late]);
  }

  raise(name: string, about: { readonly severity: Severity; readonly cause: string }): void {
    this.#change(cleanName(name), "raised", about.severity, String(about.cause));
  }

  clear(name: string): void {
    this.#change(cleanName(name), "cleared");
  }

  /** What is raised now, the oldest first. */
  list(): readonly RaisedAlarm[] {
    return [...this.#entries.values()]
      .filter(({ record }) => record.state === "raised")
      .map(({ record: { alarm, severity, cause, at } }) => ({ alarm, severity, cause, at }))
      .sort((a, b) => a.at - b.at);
  }

  /** Called after each change; to wake a loop, not to work. Returns what ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #change(alarm: string, state: AlarmRecord["state"], severity?: Severity, cause?: string): void {
    if (this.#early) {
      const full = this.#early.length >= mostAlarms;
      if (!full) this.#early.push(() => this.#change(alarm, state, severity, cause));
      return;
    }
    const before = this.#entries.get(alarm);
    if (state === "cleared" && before?.record.state !== "raised") return;
    if (before?.record.state === state && before.record.severity === severity) return;
    if (!before && this.#isFull(alarm)) return;
    const record: AlarmRecord = {
      alarm,
      state,
      severity: severity ?? before?.record.severity ?? "warning",
      cause: (cause ?? before?.record.cause ?? "").slice(0, longestCause),
      at: this.#deps.clock.wallMs(),
      edges: (before && !before.record.told ? before.record.edges : 0) + 1,
      told: false,
    };
    this.#entries.set(alarm, {
      record,
      version: (before?.version ?? 0) + 1,
      persisted: false,
      toldMs: before?.toldMs ?? Number.NEGATIVE_INFINITY,
    });
    this.#wakeup.notify();
    for (const listener of this.#listeners) listener();
  }

  #isFull(alarm: string): boolean {
    if (this.#entries.size < mostAlarms) return false;
    if (!this.#fullLogged) this.#log.error("too many alarms", { refused: alarm });
    this.#fullLogged = true;
    return true;
  }

  /** A store that cannot be read costs what was kept, never the start of the agent. */
  async #load(): Promise<void> {
    try {
      for await (const [name, record] of this.#table.range({ limit: mostAlarms })) {
        const toldMs = Number.NEGATIVE_INFINITY;
        this.#entries.set(name, { record, version: 0, persisted: true, toldMs });
      }
    } catch (error) {
      this.#log.error("kept alarms not read", { error: describeError(error) });
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const waitMs = await this.#work(signal);
      const rest = new LinkedAbort(signal);
      // After a failure only time helps: a wake-up must not turn the retries into a hot loop.
      await (this.#failures > 0
        ? this.#deps.clock.sleep(waitMs, rest.signal)
        : Promise.race([
            this.#deps.clock.sleep(waitMs, rest.signal),
            this.#wakeup.wait(rest.signal),
          ]));
      rest.abort(); // Ends the sleep or the wait that is left over.
    }
  }

  /** Writes and tells what is due; how long until there may be more to do. */
  async #work(signal: AbortSignal): Promise<number> {
    let waitMs = Number.POSITIVE_INFINITY;
    let failed: unknown;
    for (const [name, entry] of [...this.#entries]) {
      if (signal.aborted) return 0;
      if (entry.persisted && entry.record.told) continue;
      const gapMs = entry.toldMs + this.#gapMs - this.#deps.clock.monotonicMs();
      try {
        if (!entry.persisted) await this.#persist(name, true);
      } catch (error) {
        failed = error;
      }
      if (gapMs > 0) {
        if (!entry.record.told) waitMs = Math.min(waitMs, gapMs);
        continue;
      }
      try {
        await this.#tell(name);
      } catch (error) {
        failed = error;
      }
    }
    if (failed === undefined) {
      this.#failures = 0;
      return waitMs;
    }
    if (this.#failures++ === 0) this.#log.warn("alarm kept back", { error: describeError(failed) });
    return backoffCeilingMs(this.#failures - 1, retry);
  }

  /** Writes an alarm as it is now; one that is cleared and told is removed. */
  async #persist(name: string, sync: boolean): Promise<void> {
    const entry = this.#entries.get(name);
    if (!entry) return;
    const { version, record } = entry;
    const over = record.state === "cleared" && record.told;
    const write = over ? this.#table.del(name) : this.#table.put(name, record);
    await this.#deps.store.commit([write], { sync });
    if (this.#update(name, version, { persisted: true }) && over) this.#forget(name, version);
  }

  async #tell(name: string): Promise<void> {
    const entry = this.#entries.get(name);
    if (!entry || entry.record.told) return;
    const { version, record } = entry;
    const payload = alarmPayload(record);
    await this.#deps.outgoing.put({ topic: this.#options.topic, payload, lane, key: name });
    const toldMs = this.#deps.clock.monotonicMs();
    const told = { ...record, told: true };
    if (this.#update(name, version, { record: told, toldMs, persisted: false })) {
      await this.#persist(name, false); // What a power cut takes back is told once more.
      return;
    }
    const later = this.#entries.get(name); // It changed meanwhile: only the rest is owed.
    if (!later) return;
    later.toldMs = toldMs;
    later.record = { ...later.record, edges: later.record.edges - record.edges };
  }

  /** It stays in memory for its gap, so that raising it again does not tell it sooner. */
  #forget(name: string, version: number): void {
    void this.#deps.clock.sleep(this.#gapMs, this.#life.signal).then(() => {
      if (this.#entries.get(name)?.version === version) this.#entries.delete(name);
    });
  }

  #update(name: string, version: number, change: Partial<Entry>): boolean {
    const entry = this.#entries.get(name);
    if (!entry || entry.version !== version) return false;
    Object.assign(entry, change);
    return true;
  }

  get #gapMs(): number {
    return this.#options.gapMs ?? defaultGapMs;
  }
}

/** A name is a key and part of messages: what does not belong there becomes `_`. */
function cleanName(name: string): string {
  return (
    String(name)
      .toLowerCase()
      .replaceAll(/[^a-z0-9._-]/g, "_")
      .slice(0, longestName) || "_"
  );
}

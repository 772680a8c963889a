/**
 * I4 and I5 against random schedules: commands sent, repeated and contradicted, handlers that end
 * or never do, a disk that is slow or fails, and the process killed or the power cut between any
 * two turns of the event loop, records of the journal's order damaged. What the service was not told to forget it delivers again.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { isFinal, parseReply } from "../../../agent/protocol/reply.ts";
import type { FakeClock } from "../../support/fake-clock.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { damage, keysOf, Rig } from "./rig.ts";

type Action =
  | { readonly kind: "send"; readonly id: number; readonly variant: number }
  | { readonly kind: "end"; readonly which: number }
  | { readonly kind: "turns"; readonly count: number }
  | { readonly kind: "advance"; readonly ms: number }
  | { readonly kind: "fail"; readonly count: number }
  | { readonly kind: "hold" }
  | { readonly kind: "release" }
  | { readonly kind: "crash"; readonly power: boolean; readonly damage: number | null };

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("send"),
      id: fc.nat(4),
      variant: fc.constantFrom(0, 0, 0, 1),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("end"), which: fc.nat(4) }) },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("turns"), count: fc.integer({ min: 1, max: 6 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("advance"), ms: fc.constantFrom(1, 500, 400_000) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("fail"), count: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("hold") }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("release") }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("crash"),
      power: fc.boolean(),
      damage: fc.option(fc.nat(4), { freq: 2 }),
    }),
  },
) as fc.Arbitrary<Action>;

/** The world around the agent: what the service holds, and what was seen of all its runs. */
class World {
  rig: Rig;
  /** Delivered and not acknowledged; each delivery is bytes of its own. */
  #unacknowledged: Uint8Array[] = [];
  readonly #acknowledgedIds = new Set<string>();
  readonly #effects = new Map<string, number>();
  readonly #busy = new Set<string>();
  readonly #finals = new Map<string, Set<string>>();
  readonly #sent = new Map<string, Uint8Array>();
  #release: (() => void)[] = [];
  #held = false;
  #reads = 0;

  constructor() {
    this.rig = this.#newRig(new MemoryStore());
  }

  async do(step: Action): Promise<void> {
    switch (step.kind) {
      case "send":
        return this.#send(step.id, step.variant);
      case "end":
        return this.#end(step.which);
      case "turns":
        return this.#turns(step.count);
      case "advance":
        return this.rig.clock.advance(step.ms);
      case "fail":
        return this.rig.store.failCommits(step.count);
      case "hold":
        this.#held = true;
        return;
      case "release":
        return this.release();
      case "crash":
        return this.crash(step.power, step.damage);
    }
  }

  release(): void {
    this.#held = false;
    for (const go of this.#release.splice(0)) go();
  }

  /** `damage`: which record of the order in which commands came cannot be read afterwards. */
  async crash(power: boolean, damaged: number | null = null): Promise<void> {
    const old = this.rig;
    const store = power ? old.store.afterPowerCut() : old.store.afterKill();
    this.#observe(old);
    const key = (await keysOf(store, "journal_order"))[damaged ?? -1];
    if (key !== undefined) await damage(store, "journal_order", key);
    this.#release = []; // The old run never goes on.
    this.rig = this.#newRig(store, old.clock);
    const starting = this.rig.start();
    if (!this.#held) await starting;
    for (const bytes of this.#unacknowledged) this.rig.inbound.push(bytes);
  }

  /** No more faults: everything that can end does. */
  async heal(): Promise<void> {
    this.rig.store.failCommits(0);
    this.release();
    await this.crash(true);
    await this.#endAll();
  }

  async resendAll(): Promise<void> {
    for (const bytes of this.#sent.values()) this.#deliver(bytes);
    await this.#endAll();
  }

  /** Commands acknowledged and not told to come again: they were admitted, so they have an end. */
  async check(): Promise<void> {
    this.#observe(this.rig);
    for (const { text } of await this.rig.outbox.stored()) this.#noteReply(text);
    for (const [id, count] of this.#effects) {
      expect(count, `effects of ${id}`).toBeLessThanOrEqual(1);
    }
    for (const [id, texts] of this.#finals) expect([...texts], `finals of ${id}`).toHaveLength(1);
    for (const id of this.#acknowledgedIds) {
      if (!this.#busy.has(id)) expect([...this.#finals.keys()], `an end of ${id}`).toContain(id);
    }
    expect(this.rig.commands.stats()).toMatchObject({ queued: 0, running: 0 });
    expect(this.rig.outbox.reserved).toBe(0);
  }

  checkAllEnded(): void {
    expect([...this.#finals.keys()].sort()).toEqual([...this.#sent.keys()].sort());
  }

  #newRig(store: MemoryStore, clock?: FakeClock): Rig {
    const rig = new Rig({
      store,
      ...(clock && { clock }),
      options: { concurrency: () => 2, deadlineMs: 300_000 },
    });
    store.beforeSync = () =>
      this.#held ? new Promise((resolve) => this.#release.push(resolve)) : Promise.resolve();
    store.afterRead = () => this.#read();
    return rig;
  }

  /** Reads take a different number of turns each, so that anything may happen during one. */
  async #read(): Promise<void> {
    for (let turns = this.#reads++ % 4; turns > 0; turns--) await nextTurn();
  }

  #send(number: number, variant: number): void {
    const id = `c${number}`;
    const bytes = this.rig.command({
      id,
      params: { variant },
      issuedAt: 0,
      expiresAt: 4_000_000_000_000,
    });
    if (!this.#sent.has(id)) this.#sent.set(id, bytes);
    this.#deliver(bytes);
  }

  #deliver(bytes: Uint8Array): void {
    const delivery = Uint8Array.from(bytes);
    this.#unacknowledged.push(delivery);
    this.rig.inbound.push(delivery);
  }

  #end(which: number): void {
    const id = this.rig.dispatcher.running[which];
    if (id) this.rig.dispatcher.end(id);
  }

  async #endAll(): Promise<void> {
    for (let i = 0; i < 12; i++) {
      await this.rig.settle();
      for (const id of this.rig.dispatcher.running) this.rig.dispatcher.end(id);
      await this.rig.clock.advance(30_000);
    }
  }

  async #turns(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await nextTurn();
  }

  /** What a run did until now; nothing it does later counts. */
  #observe(rig: Rig): void {
    for (const { id } of rig.dispatcher.begun.splice(0)) {
      this.#effects.set(id, (this.#effects.get(id) ?? 0) + 1);
    }
    for (const { text } of rig.outbox.sent) this.#noteReply(text);
    // No promise covers a `busy`: a disk that refuses the command may refuse the answer too.
    for (const { text } of rig.outbox.asked) {
      const { id, status } = parseReply(Buffer.from(text));
      if (status === "busy") this.#busy.add(id);
    }
    const accepted = new Set(rig.inbound.accepted);
    for (const bytes of accepted) {
      this.#acknowledgedIds.add((JSON.parse(Buffer.from(bytes).toString()) as { id: string }).id);
    }
    this.#unacknowledged = this.#unacknowledged.filter((bytes) => !accepted.has(bytes));
  }

  #noteReply(text: string): void {
    const { id, status } = parseReply(Buffer.from(text));
    if (!isFinal(status)) return;
    const texts = this.#finals.get(id) ?? new Set();
    this.#finals.set(id, texts.add(text));
  }
}

test("every admitted command ends once, and takes effect at most once", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 50 }), async (steps) => {
      const world = new World();
      await world.rig.start();
      for (const step of steps) await world.do(step);
      await world.heal();
      await world.check();
      await world.resendAll();
      await world.check();
      world.checkAllEnded();
    }),
    { numRuns: Number(process.env["HOLDFAST_RUNS"] ?? 150) },
  );
});

/**
 * A commander over a scripted link: the test plays the service and the device. Real files, fake
 * time.
 */
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { BoundedQueue } from "../../../agent/core/bounded-queue.ts";
import { silentLog } from "../../../agent/core/log.ts";
import type { IncomingMessage } from "../../../agent/core/message.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { encodeReply, type Reply } from "../../../agent/protocol/reply.ts";
import {
  Commander,
  type CommanderDeps,
  type Link,
  type Run,
  RunStore,
  systemProcesses,
} from "../../../cloud/operator/operator.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";

export const DEVICE = "GID_demo@@@gw-01";
export const LIFETIME_MS = 3_600_000;
export const SLOT_1 = "GID_demo@@@console-1";

export interface Published {
  readonly topic: string;
  readonly text: string;
  readonly id: string;
}

/** What the test decides about one link. */
export class FakeLink implements Link {
  state: Link["state"] = "idle";
  lastError: { code: string; message: string } | undefined;
  readonly clientId: string;
  readonly published: Published[] = [];
  readonly inbound = new BoundedQueue<IncomingMessage>(100_000);
  accepted = 0;
  /** What becomes of a publish; resolves when the service acknowledged it. */
  onPublish: (published: Published) => Promise<void> | void = () => undefined;
  readonly #listeners = new Set<() => void>();

  constructor(clientId: string, state: Link["state"]) {
    this.clientId = clientId;
    this.#next = state;
  }

  readonly #next: Link["state"];

  info() {
    return { endpoint: "mqtt://test", lastError: this.lastError };
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  setState(state: Link["state"]): void {
    this.state = state;
    for (const listener of [...this.#listeners]) listener();
  }

  async start(): Promise<void> {
    this.setState(this.#next);
  }

  async stop(): Promise<void> {
    this.setState("stopped");
  }

  connected(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.state !== "online" && !signal.aborted) return;
        this.#listeners.delete(look);
        resolve();
      };
      this.#listeners.add(look);
      signal.addEventListener("abort", look);
      look();
    });
  }

  async publish(message: { topic: string; payload: Uint8Array }): Promise<void> {
    const text = Buffer.from(message.payload).toString("utf8");
    const published = { topic: message.topic, text, id: JSON.parse(text).id };
    this.published.push(published);
    await this.onPublish(published);
  }

  async *messages(signal: AbortSignal): AsyncIterable<IncomingMessage> {
    for (;;) {
      const message = await this.inbound.shift(signal);
      if (!message) return;
      yield message;
    }
  }

  /** Something arrives; on the topic of replies unless said otherwise. */
  receive(payload: Uint8Array | string, topic = `GW_DOWN/p2p/${this.clientId}`): void {
    const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
    let open = true;
    const accept = (): void => {
      if (open) this.accepted++;
      open = false;
    };
    this.inbound.push({ topic, payload: bytes, qos: 1, dup: false, accept });
  }

  reply(reply: Partial<Reply> & { readonly id: string }): void {
    this.receive(
      encodeReply({ device: DEVICE, at: 1, status: "succeeded", result: null, ...reply } as Reply),
    );
  }
}

export interface Rig {
  readonly commander: Commander;
  readonly clock: FakeClock;
  readonly dir: string;
  readonly links: FakeLink[];
  /** Run for each new link, before it is started. */
  prepare: (link: FakeLink) => void;
  /** State of new links once started. */
  online: Link["state"];
  /** Lets time go by until `work` has ended. */
  finish<T>(work: Promise<T>): Promise<T>;
}

export async function makeRig(dir?: string): Promise<Rig> {
  const clock = new FakeClock();
  const stateDir = dir ?? (await tempDir());
  const links: FakeLink[] = [];
  const rig: Rig = {
    commander: undefined as unknown as Commander,
    clock,
    dir: stateDir,
    links,
    prepare: () => undefined,
    online: "online",
    finish: async (work) => {
      let ended = false;
      const end = (): void => {
        ended = true;
      };
      work.then(end, end);
      // Small steps: files and locks are real, and their work takes real time in between.
      await waitFor(async () => {
        if (!ended) await clock.advance(50);
        return ended;
      });
      return work;
    },
  };
  const deps: CommanderDeps = {
    clock,
    random: new SystemRandom(),
    log: silentLog,
    processes: systemProcesses,
    connect: (clientId) => {
      const link = new FakeLink(clientId, rig.online);
      links.push(link);
      rig.prepare(link);
      return link;
    },
  };
  const commander = new Commander(
    { clientId: "GID_demo@@@console", profile: "lmq", down: "GW_DOWN", topicMax: 128, stateDir },
    deps,
  );
  return Object.assign(rig, { commander });
}

export function request(
  extra: Partial<Parameters<Commander["send"]>[0]> = {},
): Parameters<Commander["send"]>[0] {
  return {
    device: "gw-01",
    command: "system.ping",
    lifetimeMs: LIFETIME_MS,
    wait: true,
    progress: false,
    ...extra,
  };
}

export const never = new AbortController().signal;

/** What another process would see. */
export function runsOf(rig: Rig): RunStore {
  return new RunStore({ dir: join(rig.dir, "runs") }, rig);
}

export async function listRuns(store: RunStore): Promise<Run[]> {
  return Array.fromAsync(store.list());
}

/** A signal that the test aborts by hand, and that ends with the test. */
export function controller(): AbortController {
  const made = new AbortController();
  onTestFinished(() => made.abort());
  return made;
}

/**
 * The local API (surface 4): HTTP/1.1 on two unix sockets in one folder. `holdfast.sock` takes
 * everything, `producer.sock` takes messages and the health question. Who may open the files is
 * the whole access control.
 *
 * Invariants
 * - 200 for a message means accepted in the sense of I1; any other answer says that it was not,
 *   except 504, which says that nobody knows: with an `id` a retry is safe.
 * - What a local program can cost is bounded (I7): `bounded-server.ts` has the list, and no
 *   request holds up another.
 * - This folder knows nothing of the agent but `ControlPorts`.
 *
 * When the agent stops, requests in hand are finished, new ones get 503 `stopped`. After a crash
 * the socket files of the dead process are replaced at the next start.
 */
import { join } from "node:path";
import type { Clock } from "../core/clock.ts";
import type { Component } from "../core/component.ts";
import { isHoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import type { Logger } from "../core/log.ts";
import { BoundedServer, type ServerLimits } from "./bounded-server.ts";
import { ErrorLog } from "./error-log.ts";
import type { ControlPorts } from "./ports.ts";
import { BodyBudget } from "./request-body.ts";
import { router } from "./routes.ts";
import { makeSocketFile, type SocketFile } from "./socket-file.ts";

export { ControlClient } from "./client.ts";
export {
  type CommandItem,
  type ControlPorts,
  type Healthiness,
  type Page,
  type PageRequest,
  pageOf,
} from "./ports.ts";
export type { StatusReport } from "./status-report.ts";

export interface ControlOptions {
  /** The folder of the sockets; made when missing. */
  readonly dir: string;
  /** Parent topic of all that producers send. */
  readonly up: string;
  /** For tests; the rest keeps its default. */
  readonly limits?: Partial<ControlLimits>;
}

export interface ControlLimits extends ServerLimits {
  /** Bytes of all bodies that are in memory at once, over both sockets. */
  readonly bodyBudgetBytes: number;
}

interface ControlDeps {
  readonly ports: ControlPorts;
  readonly clock: Clock;
  readonly log: Logger;
}

const defaultLimits: ControlLimits = {
  connections: 128,
  requestsInHand: 512,
  headerBytes: 8_192,
  requestTimeoutMs: 30_000,
  answerTimeoutMs: 60_000,
  silenceMs: 120_000,
  lingerBytes: 1_048_576,
  lingerMs: 1_000,
  bodyBudgetBytes: 3 * limits.localApiBatchBytes,
};

const sockets = { operator: "holdfast.sock", producer: "producer.sock" } as const;

export class Control implements Component {
  readonly name = "control";
  readonly #options: ControlOptions;
  readonly #deps: ControlDeps;
  #running: { readonly server: BoundedServer; readonly file: SocketFile }[] = [];
  #started = false;

  constructor(options: ControlOptions, deps: ControlDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Throws `config_invalid` when the sockets cannot be made where they are to be. */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#started) return;
    this.#started = true;
    const bounds = { ...defaultLimits, ...this.#options.limits };
    const budget = new BodyBudget(bounds.bodyBudgetBytes);
    try {
      for (const kind of ["operator", "producer"] as const) await this.#open(kind, bounds, budget);
    } catch (error) {
      await this.stop(AbortSignal.abort());
      throw error;
    }
    signal.addEventListener("abort", () => void this.stop(signal), { once: true });
  }

  async stop(deadline: AbortSignal): Promise<void> {
    const running = this.#running;
    this.#running = [];
    await Promise.all(
      running.map(async ({ server, file }) => {
        await file.remove();
        await server.stop(deadline);
      }),
    );
  }

  async #open(
    kind: keyof typeof sockets,
    bounds: ControlLimits,
    budget: BodyBudget,
  ): Promise<void> {
    const { ports, clock, log } = this.#deps;
    const errors = new ErrorLog({ clock, log });
    const failed = (error: unknown): void => {
      if (!isHoldfastError(error)) errors.add("message failed", error);
    };
    const handler = router(kind, { ports, up: this.#options.up, failed });
    const server = new BoundedServer(bounds, { clock, errors, budget, handler });
    try {
      const path = join(this.#options.dir, sockets[kind]);
      const file = await makeSocketFile(path, (born) => server.listen(born));
      this.#running.push({ server, file });
    } catch (error) {
      await server.stop(AbortSignal.abort());
      throw error;
    }
  }
}

/**
 * Admitted commands on their way to their end: a queue per plugin, so that a slow plugin holds up
 * its own commands only, and a number of running ones per plugin.
 *
 * Bounds: `maxQueued` over all that wait, for a plugin or for the disk, and a sum of bytes; one
 * plugin gets at most three quarters of the first, so that a stuck one leaves room for the others.
 * Running ones come on top, bounded by the plugins' concurrency. A plugin's slot is free again when its handler has ended or
 * overrun its deadline; a handler that does not listen to its signal then runs on unheard.
 * Order: within a plugin commands start as they were admitted, and with a concurrency of 1 they
 * run one after the other.
 */
import { withDeadline } from "../core/clock.ts";
import { describeError } from "../core/errors.ts";
import type { CommandResult } from "./dispatcher.ts";
import { failed } from "./final-reply.ts";
import type { Finisher } from "./finish.ts";
import { bounds, type CommandsDeps, type CommandsOptions } from "./options.ts";
import { refuseExpired } from "./policy.ts";
import type { Replies } from "./replies.ts";
import { pluginOf, type Ticket } from "./ticket.ts";

export interface QueuesDeps extends Pick<CommandsDeps, "dispatcher" | "clock" | "log"> {
  readonly finisher: Finisher;
  readonly replies: Replies;
}

interface Lane {
  readonly waiting: Set<Ticket>;
  running: number;
}

export class Queues {
  readonly #options: CommandsOptions;
  readonly #deps: QueuesDeps;
  readonly #lanes = new Map<string, Lane>();
  /** Everything admitted and not ended, by journal key. */
  readonly #tickets = new Map<string, Ticket>();
  /** Unfinished commands of a plugin, the running ones included. */
  readonly #perPlugin = new Map<string, number>();
  #running = 0;
  #bytes = 0;
  #open = true;
  /** Aborted when nothing may end any more: what has not ended is the next start's. */
  readonly #abandon = new AbortController();
  #idle: (() => void) | undefined;

  constructor(options: CommandsOptions, deps: QueuesDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  get running(): number {
    return this.#running;
  }

  /** What counts against `maxQueued`. */
  get queued(): number {
    return this.#tickets.size - this.#running;
  }

  /** Whether nothing more for this plugin may be admitted now. */
  isFull(plugin: string): boolean {
    const { maxQueued } = this.#options;
    if (this.queued >= maxQueued || this.#bytes >= bounds.unfinishedBytes) return true;
    const waiting = (this.#perPlugin.get(plugin) ?? 0) - (this.#lanes.get(plugin)?.running ?? 0);
    return waiting >= Math.ceil(maxQueued * bounds.pluginShare);
  }

  find(key: string): Ticket | undefined {
    return this.#tickets.get(key);
  }

  /** Takes a place for a command whose admission is being written. */
  hold(ticket: Ticket): void {
    this.#tickets.set(ticket.key, ticket);
    this.#bytes += ticket.entry.bytes;
    this.#countPlugin(ticket, 1);
  }

  /** Its admission failed, or it has ended. */
  letGo(ticket: Ticket): void {
    if (!this.#tickets.delete(ticket.key)) return;
    this.#bytes -= ticket.entry.bytes;
    this.#countPlugin(ticket, -1);
  }

  /** Its admission is on disk. */
  enqueue(ticket: Ticket): void {
    ticket.state = "queued";
    const plugin = pluginOf(ticket.entry.command.name);
    const lane = this.#lanes.get(plugin) ?? { waiting: new Set(), running: 0 };
    this.#lanes.set(plugin, lane);
    lane.waiting.add(ticket);
    if (ticket.progress) this.#notify(ticket);
    else void this.#noticeLater(ticket);
    this.#pump(plugin, lane);
  }

  /** Ends a command without running it; resolves when that is on disk or given up. */
  async end(ticket: Ticket, result: CommandResult): Promise<void> {
    if (!this.#tickets.has(ticket.key)) this.hold(ticket);
    ticket.state = "finishing";
    ticket.ended.abort();
    if (await this.#deps.finisher.finish(ticket, result, this.#abandon.signal)) {
      this.letGo(ticket);
    }
    if (this.#idle && !this.#busy()) this.#idle();
  }

  /**
   * Starts nothing more, and gives what runs or waits for the disk until `deadline`. Then handlers
   * are told to stop, and whatever they still say is not heard.
   */
  async stop(deadline: AbortSignal): Promise<void> {
    this.#open = false;
    if (this.#busy() && !deadline.aborted) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
        deadline.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    this.#abandon.abort();
    for (const ticket of this.#tickets.values()) {
      ticket.ended.abort();
      if (ticket.state !== "finishing") ticket.reservation?.release();
    }
  }

  #countPlugin(ticket: Ticket, change: number): void {
    const plugin = pluginOf(ticket.entry.command.name);
    const count = (this.#perPlugin.get(plugin) ?? 0) + change;
    if (count === 0) this.#perPlugin.delete(plugin);
    else this.#perPlugin.set(plugin, count);
  }

  #busy(): boolean {
    return [...this.#tickets.values()].some(
      ({ state }) => state === "running" || state === "finishing",
    );
  }

  #pump(plugin: string, lane: Lane): void {
    const { clock } = this.#deps;
    const most = Math.max(1, this.#options.concurrency?.(plugin) ?? 1);
    for (const ticket of lane.waiting) {
      if (!this.#open || lane.running >= most) return;
      lane.waiting.delete(ticket);
      const now = { trusted: clock.trusted(), wallMs: clock.wallMs() };
      const late = refuseExpired(ticket.entry.command, now);
      const work = late ? this.end(ticket, late) : this.#run(ticket, plugin, lane);
      work.catch((error: unknown) => {
        this.#deps.log.error("command broke down", { error: describeError(error) });
      });
    }
    if (lane.running === 0 && lane.waiting.size === 0) this.#lanes.delete(plugin);
  }

  async #run(ticket: Ticket, plugin: string, lane: Lane): Promise<void> {
    ticket.state = "running";
    lane.running++;
    this.#running++;
    if (ticket.progress || ticket.noticed) this.#notify(ticket);
    const result = await this.#execute(ticket);
    lane.running--;
    this.#running--;
    if (this.#abandon.signal.aborted) return;
    const ending = this.end(ticket, result);
    this.#pump(plugin, lane);
    await ending;
  }

  /** Never rejects: a dispatcher that throws has failed. */
  async #execute(ticket: Ticket): Promise<CommandResult> {
    const { clock, dispatcher } = this.#deps;
    const { command } = ticket.entry;
    const deadlineMs = this.#options.deadlineMs ?? bounds.defaultDeadlineMs;
    try {
      const outcome = await withDeadline(clock, deadlineMs, this.#abandon.signal, (signal) =>
        dispatcher.dispatch(command, signal),
      );
      if (!outcome.timedOut) return outcome.value;
      const message = `The command took longer than ${deadlineMs} ms.`;
      return failed("deadline_exceeded", message);
    } catch (error) {
      this.#deps.log.error("dispatcher threw", { id: command.id, error: describeError(error) });
      const why = error instanceof Error ? error.message : "The plugin failed.";
      return failed("handler_failed", why);
    }
  }

  async #noticeLater(ticket: Ticket): Promise<void> {
    await this.#deps.clock.sleep(bounds.noticeAfterMs, ticket.ended.signal);
    if (ticket.ended.signal.aborted) return;
    ticket.noticed = true;
    this.#notify(ticket);
  }

  #notify(ticket: Ticket): void {
    const { command, replyTo } = ticket.entry;
    this.#deps.replies.send(
      { from: command.from, topic: replyTo },
      { id: command.id, status: ticket.state === "running" ? "running" : "accepted" },
    );
  }
}

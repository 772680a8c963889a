/** An outbox and its forwarder against a service in memory that closes on what it forbids. */
import { silentLog } from "../../../agent/core/log.ts";
import type { Close } from "../../../agent/core/message.ts";
import { Forwarder } from "../../../agent/outbox/outbox.ts";
import type { Store } from "../../../agent/store/store.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { type Received, SimLink } from "../../support/sim-link.ts";
import { never, type RigOptions, startRig } from "./rig.ts";

export interface ServiceOptions {
  /** What it answers by closing. */
  forbids: (message: Received) => boolean;
  /** False: an acknowledgement comes a little later, and never when the connection closed before. */
  readonly prompt?: boolean;
  /** As `prompt: false`, and how much later, ms. */
  readonly ackMs?: (text: string) => number;
  readonly window?: number;
  /** Sent before it closes. */
  readonly notice?: number;
  /** Called for each message that came, before it is answered. */
  readonly onMessage?: (message: Received, close: (how: Close["reason"]) => void) => void;
}

const RECONNECT_MS = 20;

export async function startService<S extends Store = MemoryStore>(
  options: ServiceOptions,
  rigOptions: RigOptions<S> = {},
) {
  const rig = await startRig<S>(rigOptions);
  const { clock, outbox } = rig;
  const { forbids, ackMs = () => 3, window = 64, notice } = options;
  const prompt = options.ackMs ? false : (options.prompt ?? true);
  const service = { forbids, connections: 0, online: true };
  /** What was taken, in order, duplicates left out. */
  const delivered: Received[] = [];
  const ids = new Set<string>();

  const serve = (): SimLink => {
    service.connections++;
    const connection = { open: true };
    const close = (how: Close["reason"]): void => {
      connection.open = false;
      link.close(how);
    };
    const link: SimLink = new SimLink((message) => {
      if (!connection.open) return;
      options.onMessage?.(message, close);
      if (!connection.open) return;
      if (service.forbids(message)) {
        connection.open = false;
        link.close("peer_closed", notice);
        return;
      }
      const take = (): void => {
        if (!connection.open) return;
        if (!ids.has(message.id)) delivered.push(message);
        ids.add(message.id);
        link.ack(link.unacked.indexOf(message));
      };
      if (prompt) take();
      else void clock.sleep(ackMs(message.text), never).then(take);
    });
    return link;
  };
  const connected = async (signal: AbortSignal): Promise<SimLink | undefined> => {
    await clock.sleep(RECONNECT_MS, signal);
    while (!service.online && !signal.aborted) await clock.sleep(RECONNECT_MS, signal);
    return signal.aborted ? undefined : serve();
  };
  const forwarder: Forwarder = new Forwarder(
    { window, maxRate: 0, ackTimeoutMs: 30_000 },
    { outbox, connected, clock, log: silentLog },
  );
  await forwarder.start();

  /** Lets time pass until it is so. */
  const until = async (done: () => boolean, limitMs = 600_000): Promise<void> => {
    for (let passedMs = 0; !done(); passedMs += 50) {
      if (passedMs > limitMs) throw new Error(`it did not come: ${JSON.stringify(outbox.stats())}`);
      await clock.advance(50);
    }
  };
  const rest = (): number =>
    Object.values(outbox.stats().lanes).reduce((sum, { messages }) => sum + messages, 0);
  const stop = async (): Promise<void> => {
    const stopping = forwarder.stop().then(() => outbox.stop(never));
    let stopped = false;
    void stopping.then(() => {
      stopped = true;
    });
    await until(() => stopped);
  };
  return { ...rig, forwarder, service, delivered, until, rest, stop };
}

export function textsOn(list: readonly Received[], topic: string): string[] {
  return list.filter((message) => message.topic === topic).map(({ text }) => text);
}

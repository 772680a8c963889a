import type { Command } from "../../../agent/commands/commands.ts";
import type { JsonObject } from "../../../agent/core/json.ts";
import { type Logger, silentLog } from "../../../agent/core/log.ts";
import type { OutgoingMessage, Receipt } from "../../../agent/core/message.ts";
import { Host, type HostDeps, type HostOptions } from "../../../agent/host/host.ts";
import type { Plugin } from "../../../agent/sdk/sdk.ts";
import { FakeClock } from "../../support/fake-clock.ts";

export const never = new AbortController().signal;

export function command(name: string, params: JsonObject = {}): Command {
  return { id: "c1", from: "GID@@@ops", name, params, issuedAt: 0, expiresAt: 1e15 };
}

export class FakeAlarms {
  readonly raised = new Map<string, string>();
  raise(name: string, about: { cause: string }): void {
    this.raised.set(name, about.cause);
  }
  clear(name: string): void {
    this.raised.delete(name);
  }
  list() {
    return [...this.raised.keys()].map((alarm) => ({ alarm }));
  }
}

export class FakeOutgoing {
  readonly messages: OutgoingMessage[] = [];
  refuse: Error | undefined;
  async put(message: OutgoingMessage): Promise<Receipt> {
    if (this.refuse) throw this.refuse;
    this.messages.push(message);
    const seq = this.messages.length;
    return { id: `01J0000000000000000000000A-${seq}`, seq, safe: "disk" };
  }
}

export interface Hosting {
  readonly host: Host;
  readonly clock: FakeClock;
  readonly alarms: FakeAlarms;
  readonly outgoing: FakeOutgoing;
}

export function hosting(
  plugins: readonly Plugin[],
  options: Partial<HostOptions> = {},
  deps: Partial<HostDeps> & { log?: Logger } = {},
): Hosting {
  const clock = new FakeClock();
  const alarms = new FakeAlarms();
  const outgoing = new FakeOutgoing();
  const host = new Host(
    {
      enabled: plugins.map((plugin) => plugin.name),
      builtins: plugins,
      configs: {},
      up: "GW_UP",
      device: { clientId: "GID@@@gw", agentVersion: "0.1.0", nonce: "n0nce" },
      ...options,
    },
    { clock, log: silentLog, outgoing, alarms, ...deps },
  );
  return { host, clock, alarms, outgoing };
}

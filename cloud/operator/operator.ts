/**
 * The commander's side: sends a command to a device of which it knows the client id, gets the
 * reply, and knows later what became of it.
 *
 * A run is one command to one device: recorded on disk first, then published, then waited for.
 * Several holdfast processes work side by side in one state folder; each takes a slot (slots.ts), a
 * client id of its own, and only the holder of a slot writes the runs of that slot (run-store.ts).
 *
 * Invariants
 * - A command that any device may have seen is in the runs folder, with the bytes that were sent.
 * - A retry, in this process or by `resume` after a crash, has the same id and the same bytes: it
 *   never makes a command run twice.
 * - The first final reply stands. Another one that differs is recorded as a contradiction.
 * - Every answer that comes to a slot is recorded to its run, whoever waits: a process that waits
 *   for a run in a slot that another one holds reads the answer from the file.
 *
 * Restarted: nothing is lost that was recorded; `runs list` shows what is open, `wait` collects,
 * `resume` sends again. Offline device: the command waits in the service, because the session is
 * persistent and the QoS is 1 (lmq-protocol 5: the sender's rule); so does the answer.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import type { Random } from "../../agent/core/random.ts";
import { Commander } from "./commander.ts";
import {
  type CommanderConfig,
  type CommanderSources,
  commanderFolders,
  loadCommanderConfig,
} from "./commander-config.ts";
import type { Account } from "./presence.ts";
import { systemProcesses } from "./process-identity.ts";
import { sessionLink } from "./session-link.ts";
import { TokenDesk } from "./tokens.ts";

export { Commander, type CommanderDeps } from "./commander.ts";
export { commanderFolders, loadCommanderConfig } from "./commander-config.ts";
export type { Link } from "./link.ts";
export type { Presence } from "./presence.ts";
export {
  type Judgement,
  type PresenceEvent,
  PresenceJudge,
  readPresenceEvent,
} from "./presence-judge.ts";
export { systemProcesses } from "./process-identity.ts";
export { type Run, runState } from "./run.ts";
export { RunStore } from "./run-store.ts";
export { SLOT_COUNT, type Slot, Slots } from "./slots.ts";
export type { TokenDesk } from "./tokens.ts";

/** Throws `config_invalid` or `secret_exposed`. Connects to nothing yet. */
export function openCommander(
  sources: CommanderSources,
  deps: { readonly clock: Clock; readonly random: Random; readonly log: Logger },
): Commander {
  const config = loadCommanderConfig(sources);
  const account = accountOf(config);
  return new Commander(
    {
      clientId: config.device.client_id,
      profile: config.service.profile,
      down: config.topics.down,
      topicMax: config.service.topic_max,
      stateDir: commanderFolders(sources.environment).stateDir,
      ...(account ? { account } : {}),
    },
    {
      ...deps,
      processes: systemProcesses,
      connect: (clientId) => sessionLink(clientId, config, deps),
    },
  );
}

/** Throws `config_invalid`, also where there is no account, or `secret_exposed`. */
export function openTokenDesk(
  sources: CommanderSources,
  deps: { readonly clock: Clock },
): TokenDesk {
  const account = accountOf(loadCommanderConfig(sources));
  if (account) return new TokenDesk(account, deps);
  throw new HoldfastError(
    "config_invalid",
    "Tokens need an account; expected [account] with access_key, secret_file and http.",
  );
}

function accountOf({ account, service }: CommanderConfig): Account | undefined {
  const { access_key, secret, http } = account;
  if (http === "" || !secret) return undefined;
  return {
    accessKey: access_key,
    secret: () => secret.reveal(),
    http,
    instanceId: service.instance_id,
  };
}

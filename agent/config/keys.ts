/** The agent's own table. Its order is the order of the documentation. */
import * as inside from "./keys-inside.ts";
import { auth, device, outboxKeys, service, tls, topics } from "./keys-service.ts";
import { lanes } from "./lanes.ts";
import { defineTable, type Loaded, section } from "./table.ts";

export const agentTable = defineTable({
  device,
  service,
  auth,
  tls,
  topics,
  state: inside.state,
  outbox: section("Messages on their way out.", { ...outboxKeys, lanes }),
  commands: inside.commands,
  health: inside.health,
  clock: inside.clock,
  plugins: inside.plugins,
  control: inside.control,
  log: inside.log,
});

/** The agent's whole configuration, after all checks. */
export type Config = Loaded<typeof agentTable>;

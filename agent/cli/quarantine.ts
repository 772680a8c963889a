import type { ControlClient } from "../control/control.ts";
import { HoldfastError, isHoldfastError } from "../core/errors.ts";
import {
  cursorOption,
  jsonListOption,
  limitOption,
  member,
  printList,
  timeMember,
} from "./listing.ts";
import { configOption, controlClient } from "./sources.ts";
import { printable } from "./style.ts";
import {
  type CliContext,
  defineGroup,
  defineSubcommand,
  type ExitStatus,
  exit,
  flag,
  optionalRestArguments,
} from "./subcommand.ts";

const list = defineSubcommand({
  name: "list",
  summary: "List what the service closed the connection on.",
  help:
    "SCOPE `topic`: the whole topic is refused, its further messages come here untried. `message`: " +
    "others of its topic go through. TRIES: how often it, or one of its topic, was tried again.",
  examples: [{ command: "quarantine list --json", doc: "for machines" }],
  options: {
    config: configOption,
    limit: limitOption,
    cursor: cursorOption,
    json: jsonListOption,
  },
  async run({ options }, context) {
    const columns = [
      { title: "id", cell: member("id") },
      { title: "lane", cell: member("lane") },
      { title: "bytes", align: "right" as const, cell: member("bytes") },
      { title: "set aside", cell: timeMember("parkedAt") },
      { title: "scope", cell: member("scope") },
      { title: "tries", align: "right" as const, cell: member("tries") },
      { title: "topic", cell: member("topic") },
    ];
    const none = "Nothing is in quarantine.";
    const client = controlClient(options, context);
    await printList(client, { ...options, name: "quarantine", columns, none }, context);
    return exit.done;
  },
});

const words = {
  arguments: { ids: optionalRestArguments("ID", "message ids, as `quarantine list` shows them") },
  options: {
    config: configOption,
    all: flag("all that is in quarantine"),
    json: flag("print one JSON object"),
  },
};

const retry = defineSubcommand({
  name: "retry",
  summary: "Try messages again now, the oldest of each topic first.",
  help: "When that one goes through, the rest of its topic follows in order.",
  examples: [{ command: "quarantine retry --all", doc: "after the rights were put right" }],
  ...words,
  run({ arguments: { ids }, options }, context) {
    const act = (client: ControlClient, id?: string) => client.retryQuarantined(id);
    return forEach({ ids, ...options, name: "retried", act }, context);
  },
});

const drop = defineSubcommand({
  name: "drop",
  summary: "Let messages go for good.",
  help: "They are counted as let go, and reported as a gap.",
  examples: [{ command: "quarantine drop --all", doc: "everything that is in it" }],
  ...words,
  run({ arguments: { ids }, options }, context) {
    const act = (client: ControlClient, id?: string) => client.dropQuarantined(id);
    return forEach({ ids, ...options, name: "dropped", act }, context);
  },
});

interface Work {
  readonly ids: readonly string[];
  readonly all: boolean;
  readonly json: boolean;
  readonly config: string | undefined;
  /** What was done, and the name of the count in the JSON. */
  readonly name: "retried" | "dropped";
  readonly act: (client: ControlClient, id?: string) => Promise<number>;
}

/** Ids that are not there are told, and do not keep it from the others. */
async function forEach(work: Work, context: CliContext): Promise<ExitStatus> {
  const { ids, all, name, act } = work;
  if (all === ids.length > 0) {
    throw new HoldfastError("usage", "Give the ids of messages, or --all.");
  }
  const client = controlClient(work, context);
  let count = 0;
  const missing: string[] = [];
  for (const id of all ? [undefined] : ids) {
    try {
      count += await act(client, id);
    } catch (error) {
      if (id === undefined || !isHoldfastError(error, "not_found")) throw error;
      missing.push(id);
      context.stderr.write(`No message ${printable(id)} is in quarantine.\n`);
    }
  }
  const shown = { [name]: count, missing };
  context.stdout.write(work.json ? `${JSON.stringify(shown)}\n` : `${count} ${name}\n`);
  return missing.length > 0 ? exit.failed : exit.done;
}

export const quarantine = defineGroup({
  name: "quarantine",
  summary: "Look after messages that the service refuses.",
  help: "Asks the running agent over its local socket. Exit status 3 when no agent answers.",
  subcommands: [list, retry, drop],
});

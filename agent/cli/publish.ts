import type { ControlClient } from "../control/control.ts";
import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import { publishLines } from "./publish-lines.ts";
import { configOption, controlClient } from "./sources.ts";
import type { CliContext, Input } from "./subcommand.ts";
import {
  argument,
  decimal,
  defineSubcommand,
  type ExitStatus,
  exit,
  flag,
  option,
  optionalArgument,
  text,
} from "./subcommand.ts";

export const publish = defineSubcommand({
  name: "publish",
  summary: "Hand messages to the agent.",
  help:
    "Returns when the agent has accepted them: from then on they are safe, at the service or on " +
    "disk. TOPIC is the part below the parent topic (topics.up). Without PAYLOAD, or with -, the " +
    "payload is read from stdin, byte by byte as it is.",
  examples: [
    { command: "publish room/temperature 21.5", doc: "one message" },
    { command: "publish door '{\"open\":true}' --lane event", doc: "in another lane" },
    { command: "publish camera/frame - < frame.jpg", doc: "any bytes from stdin" },
    { command: "publish log --lines < events.txt", doc: "each line of stdin is a message" },
  ],
  arguments: {
    topic: argument("TOPIC", "where to, below the parent topic"),
    payload: optionalArgument("PAYLOAD", "what; - is stdin"),
  },
  options: {
    config: configOption,
    lane: option({ value: "LANE", doc: "the lane, telemetry unless named", parse: text }),
    key: option({ value: "KEY", doc: "for lanes that keep the latest of a key", parse: text }),
    ttl: option({ value: "SECONDS", doc: "lifetime, 0 is none", parse: decimal({ min: 0 }) }),
    id: option({ value: "ID", doc: "your own id: makes a retry safe", parse: text }),
    lines: flag("each line of stdin is a message, empty lines are skipped"),
    json: flag("print one JSON object"),
  },
  async run({ arguments: { topic, payload }, options }, context): Promise<ExitStatus> {
    const fromStdin = payload === undefined || payload === "-";
    if (options.lines && (!fromStdin || options.id !== undefined)) {
      throw new HoldfastError(
        "usage",
        "--lines reads stdin: it goes with neither PAYLOAD nor --id.",
      );
    }
    if (payload === undefined && context.stdin.isTty && !options.lines) {
      throw new HoldfastError("usage", "Say what to publish: PAYLOAD, or - to type it on stdin.");
    }
    const client = controlClient(options, context);
    const message = { topic, lane: options.lane, key: options.key, ttlS: options.ttl };
    if (options.lines) return publishLines(client, message, { json: options.json, context });
    const bytes = fromStdin ? await readAll(context.stdin) : Buffer.from(payload, "utf8");
    await publishOne(client, { ...message, id: options.id }, bytes, {
      json: options.json,
      context,
    });
    return exit.done;
  },
});

async function publishOne(
  client: ControlClient,
  message: Parameters<ControlClient["put"]>[0],
  bytes: Uint8Array,
  { json, context }: { readonly json: boolean; readonly context: CliContext },
): Promise<void> {
  const receipt = await client.put(message, bytes);
  const where = receipt["safe"] === "broker" ? "at the service" : "on disk";
  context.stdout.write(
    json ? `${JSON.stringify(receipt)}\n` : `accepted ${String(receipt["id"])}, safe ${where}\n`,
  );
}

/** Stdin as one payload, up to what the service takes. */
async function readAll(stdin: Input): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stdin) {
    length += chunk.length;
    if (length > limits.payloadBytes) {
      throw new HoldfastError(
        "payload_too_large",
        `What comes from stdin is over the ${limits.payloadBytes} bytes of one message.`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

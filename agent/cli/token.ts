/** `holdfast token apply|query|revoke`: tokens for devices, with the commander's account. */
import { openTokenDesk, type TokenDesk } from "../../cloud/operator/operator.ts";
import { HoldfastError } from "../core/errors.ts";
import {
  argument,
  type CliContext,
  defineGroup,
  defineSubcommand,
  exit,
  expected,
  flag,
  integer,
  option,
  type Parser,
  text,
} from "./subcommand.ts";

/** A token is a few hundred characters, and never more than fits a payload. */
const TOKEN_BYTES = 65_536;
const ACTIONS = ["R", "W"] as const;
type Action = (typeof ACTIONS)[number];

const config = option({
  value: "FILE",
  doc: "instead of commander.toml in its usual place",
  parse: text,
});
const json = flag("print a JSON object");
const tokenArgument = argument("TOKEN", "the token; - reads it from stdin");

const actions: Parser<readonly Action[]> = (given) => {
  const words = given.split(",");
  const known = ACTIONS.filter((action) => words.includes(action));
  if (known.length !== words.length) throw expected("R, W or R,W", given);
  return known;
};

const resources: Parser<readonly string[]> = (given) => {
  const filters = given.split(",");
  if (filters.includes("")) throw expected("topics or filters, joined with commas", given);
  return filters;
};

const apply = defineSubcommand({
  name: "apply",
  summary: "Get a token for a device.",
  help:
    "Prints the token, which opens the resources to whoever has it, until it expires. To receive " +
    "is R, to send is W; commands to devices need W on PARENT/p2p/#.",
  examples: [
    {
      command: "token apply --resources GW_UP/#,GW_DOWN/# --actions R,W --expires-in 86400",
      doc: "for a device, for a day",
    },
  ],
  options: {
    resources: option({ value: "A,B", doc: "topics and filters", parse: resources }),
    actions: option({ value: "R,W", doc: "what it is for", parse: actions, default: ACTIONS }),
    expiresIn: option({ value: "S", doc: "its life in seconds", parse: integer({ min: 1 }) }),
    json,
    config,
  },
  run: async ({ options }, context) => {
    const { resources: wanted, expiresIn } = options;
    if (!wanted) throw new HoldfastError("usage", "give --resources A,B");
    if (expiresIn === undefined) throw new HoldfastError("usage", "give --expires-in S");
    const { token, expiresAt } = await deskFor(options.config, context).apply(
      { actions: options.actions, resources: wanted, expiresInMs: expiresIn * 1_000 },
      context.signal,
    );
    context.stdout.write(`${options.json ? JSON.stringify({ token, expiresAt }) : token}\n`);
    return exit.done;
  },
});

const query = defineSubcommand({
  name: "query",
  summary: "Ask whether a token is valid.",
  help: "Prints valid, forged, expired or revoked. Exit status 0 for valid alone.",
  examples: [{ command: "token query - < token.txt", doc: "one that nobody should see in a list" }],
  arguments: { token: tokenArgument },
  options: { json, config },
  run: async ({ arguments: { token }, options }, context) => {
    const given = await readToken(token, context);
    const state = await deskFor(options.config, context).query(given, context.signal);
    context.stdout.write(`${options.json ? JSON.stringify({ state }) : state}\n`);
    return state === "valid" ? exit.done : exit.failed;
  },
});

const revoke = defineSubcommand({
  name: "revoke",
  summary: "End a token before its time.",
  help: "For good. Devices that are connected with it are disconnected at once.",
  examples: [{ command: "token revoke TOKEN --json", doc: "the outcome as JSON" }],
  arguments: { token: tokenArgument },
  options: { json, config },
  run: async ({ arguments: { token }, options }, context) => {
    const given = await readToken(token, context);
    await deskFor(options.config, context).revoke(given, context.signal);
    context.stdout.write(options.json ? '{"revoked":true}\n' : "revoked\n");
    return exit.done;
  },
});

export const token = defineGroup({
  name: "token",
  summary: "Get, check and revoke tokens for devices.",
  help: "Needs [account] in commander.toml.",
  subcommands: [apply, query, revoke],
});

function deskFor(configFile: string | undefined, { env, clock }: CliContext): TokenDesk {
  return openTokenDesk({ configFile, environment: env, workingDir: process.cwd() }, { clock });
}

/** Others can see the command line of a process, but not what it reads. */
async function readToken(given: string, context: CliContext): Promise<string> {
  if (given !== "-") return given;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of context.stdin) {
    bytes += chunk.length;
    if (bytes > TOKEN_BYTES) throw new HoldfastError("usage", "what came on stdin is no token");
    chunks.push(chunk);
  }
  const read = Buffer.concat(chunks).toString("utf8").trim();
  if (read === "") throw new HoldfastError("usage", "no token came on stdin");
  return read;
}

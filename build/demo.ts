/**
 * `npm start`: the product does its whole job on this machine, in half a minute. The local service
 * and one agent run as processes of their own on free loopback ports, with their state in a
 * temporary folder; everything ends and is removed with this script.
 *
 *   npm start               then it stays up, until Ctrl-C
 *   npm start -- --once     ends after the summary: 0, or 1 if anything was lost
 */
import { constants } from "node:os";
import { parseArgs } from "node:util";
import { DemoFailure, Interrupted, Life } from "./demo/life.ts";
import { stayUp } from "./demo/live.ts";
import { Narrator } from "./demo/narrator.ts";
import { Programs } from "./demo/programs.ts";
import { type Closers, play, type Scene } from "./demo/scenario.ts";
import { Stage } from "./demo/stage.ts";
import type { Result } from "./demo/tally.ts";

const usage = `usage: npm start [-- OPTIONS]

Starts the local service and one agent, sends this machine's metrics and a command,
cuts the connection, kills the agent with -9 in the outage, heals, and counts what
was accepted, delivered, lost and duplicated. Then it stays up until Ctrl-C.

  --once    end after the summary: exit status 0, or 1 if anything was lost
  --help    this text

Uses free ports of the loopback and a temporary folder, which it removes at the end.
`;

/** Twice the window of the forwarder: one for the cut, one for the kill. */
const MOST_DUPLICATES = 128;

const given = readArguments();
if (given === undefined) {
  process.stderr.write(usage);
  process.exitCode = 2;
} else if (given.help) {
  process.stdout.write(usage);
} else {
  process.exitCode = await demo(given.once);
}

function readArguments(): { readonly once: boolean; readonly help: boolean } | undefined {
  try {
    const { values } = parseArgs({
      options: { once: { type: "boolean" }, help: { type: "boolean", short: "h" } },
    });
    return { once: values.once ?? false, help: values.help ?? false };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n`);
    return undefined;
  }
}

/** Gives the exit status. */
async function demo(once: boolean): Promise<number> {
  const life = new Life();
  const narrator = new Narrator(process.stdout);
  const programs = new Programs(life);
  const stage = new Stage();
  const scene: Scene = { life, narrator, programs, stage };
  const closers: Closers = [];
  const stopListening = endOnSignals(life);
  // Whatever happens to this process short of SIGKILL, nothing of it stays.
  process.once("exit", () => {
    programs.killAll();
    stage.remove();
  });
  let isStory = true;
  try {
    narrator.say(narrator.style("bold", "Holdfast: a service, an agent and an outage"));
    narrator.say();
    const cast = await play(scene, closers);
    tellResult(narrator, cast.result);
    if (once) return cast.result.lost > 0 ? 1 : 0;
    isStory = false;
    await stayUp(scene, cast);
    return 0;
  } catch (error) {
    return tellEnd(narrator, life.reasonFor(error), isStory);
  } finally {
    narrator.endLive();
    life.end(new Interrupted("the end"));
    await closeAll(closers);
    await programs.stopAll();
    stage.remove();
    stopListening();
  }
}

function tellResult(narrator: Narrator, result: Result): void {
  const { accepted, retried, delivered, lost, duplicated, disordered, unasked } = result;
  const row = (name: string, count: number, format: "green" | "red", what: string): void => {
    const figure = narrator.style(["bold", format], String(count).padStart(6));
    narrator.say(`  ${name.padEnd(11)}${figure}   ${narrator.style("dim", what)}`);
  };
  const again = retried > 0 ? `, ${retried} of them not at the first try` : "";
  narrator.say();
  row("accepted", accepted, "green", `the agent's local API answered 200${again}`);
  row("delivered", delivered, lost > 0 ? "red" : "green", "arrived at the auditor");
  row("lost", lost, lost > 0 ? "red" : "green", "accepted and never arrived");
  row("duplicated", duplicated, duplicated > MOST_DUPLICATES ? "red" : "green", "came once more");
  row("disordered", disordered, disordered > 0 ? "red" : "green", "came after a later one");
  if (unasked > 0) row("unasked", unasked, "red", "arrived and was never accepted");
  narrator.say();
}

/** Says why it ended before its time; gives the exit status. */
function tellEnd(narrator: Narrator, reason: unknown, isStory: boolean): number {
  narrator.endLive();
  if (reason instanceof Interrupted) {
    narrator.say("\nStopped.");
    return isStory ? 128 + constants.signals.SIGINT : 0;
  }
  const message = reason instanceof DemoFailure ? reason.message : stackOf(reason);
  process.stderr.write(`\nThe demo failed: ${message}\n`);
  if (reason instanceof DemoFailure) {
    if (reason.cause !== undefined) process.stderr.write(`  because: ${String(reason.cause)}\n`);
    const { program } = reason;
    if (program && program.lastLines.length > 0) {
      const lines = program.lastLines.map((line) => `  ${line}\n`).join("");
      process.stderr.write(`The last lines of ${program.name}:\n${lines}`);
    }
  }
  return 1;
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** The first signal ends the demo in its order, the second at once. */
function endOnSignals(life: Life): () => void {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  let asked = false;
  const end = (signal: NodeJS.Signals): void => {
    if (asked && signal === "SIGINT") process.exit(128 + constants.signals.SIGINT);
    asked = true;
    life.end(new Interrupted(signal));
  };
  for (const signal of signals) process.on(signal, end);
  // Nobody reads any more: `npm start | head`.
  process.stdout.on("error", () => life.end(new Interrupted("stdout is closed")));
  return () => {
    for (const signal of signals) process.off(signal, end);
  };
}

async function closeAll(closers: Closers): Promise<void> {
  for (const close of closers.reverse()) {
    try {
      await close();
    } catch (error) {
      process.stderr.write(`  not closed: ${stackOf(error)}\n`);
    }
  }
}

/**
 * The context of a real process: its streams, its environment and its signals.
 *
 * Signals: the first SIGINT or SIGTERM asks to stop, and the subcommand decides how; a second
 * SIGINT ends the process at once, for the one who sits in front of something stuck. A closed
 * stdout (`holdfast ... | head`) counts as a request to stop, and what is written later is dropped.
 */
import manifest from "../../package.json" with { type: "json" };
import { HoldfastError } from "../core/errors.ts";
import { SystemClock } from "../core/system-clock.ts";
import { SystemRandom } from "../core/system-random.ts";
import type { CliContext, Input, Output } from "./subcommand.ts";

const DEFAULT_COLUMNS = 80;
/** The status a shell gives to a process that SIGINT ended. */
const INTERRUPTED = 130;

export function systemContext(): CliContext {
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  process.once("SIGTERM", stop);
  process.once("SIGINT", () => {
    stop();
    process.once("SIGINT", () => process.exit(INTERRUPTED));
  });
  return {
    stdout: output(process.stdout, stop),
    stderr: output(process.stderr, () => undefined),
    stdin: input(process.stdin, stopping.signal),
    env: process.env,
    isTty: process.stdout.isTTY === true,
    columns: process.stdout.columns ?? DEFAULT_COLUMNS,
    signal: stopping.signal,
    onHangup: (listener) => {
      process.on("SIGHUP", listener);
      return () => process.off("SIGHUP", listener);
    },
    clock: new SystemClock(),
    random: new SystemRandom(),
    version: manifest.version,
  };
}

function output(stream: NodeJS.WriteStream, closed: () => void): Output {
  let broken = false;
  stream.on("error", () => {
    broken = true;
    closed();
  });
  return {
    write: (data) => {
      if (!broken) stream.write(data);
    },
    drained: () =>
      new Promise((resolve) => {
        if (broken || !stream.writable) resolve();
        else stream.write("", () => resolve());
      }),
  };
}

/**
 * Lazy: a process that never reads its stdin must not be kept alive by it. Whoever reads when a stop
 * is asked for gets `cancelled`: the next byte may never come.
 */
function input(stream: NodeJS.ReadStream, stopping: AbortSignal): Input {
  return {
    isTty: stream.isTTY === true,
    async *[Symbol.asyncIterator]() {
      const stop = (): void => {
        stream.destroy(new HoldfastError("cancelled", "It was interrupted."));
      };
      stopping.addEventListener("abort", stop, { once: true });
      if (stopping.aborted) stop();
      try {
        yield* stream;
      } finally {
        stopping.removeEventListener("abort", stop);
      }
    },
  };
}

/** A command line with everything around it faked, for tests of subcommands. */
import { runCli } from "../../../agent/cli/cli.ts";
import type { CliContext, LazySubcommand } from "../../../agent/cli/subcommand.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { FakeClock } from "../../support/fake-clock.ts";

export interface World extends CliContext {
  readonly clock: FakeClock;
  readonly out: () => string;
  readonly err: () => string;
  /** SIGTERM. */
  readonly terminate: () => void;
  /** SIGHUP. */
  readonly hangUp: () => void;
}

export interface WorldOptions {
  readonly env?: Record<string, string>;
  readonly stdin?: Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>;
  readonly isTty?: boolean;
  readonly columns?: number;
}

export function world(options: WorldOptions = {}): World {
  const written = { out: "", err: "" };
  const stopping = new AbortController();
  const listeners = new Set<() => void>();
  const sink = (name: keyof typeof written) => ({
    write: (data: string | Uint8Array) => {
      written[name] += typeof data === "string" ? data : Buffer.from(data).toString("utf8");
    },
    drained: () => Promise.resolve(),
  });
  return {
    stdout: sink("out"),
    stderr: sink("err"),
    stdin: {
      isTty: options.stdin === undefined,
      async *[Symbol.asyncIterator]() {
        for await (const chunk of options.stdin ?? []) yield Buffer.from(chunk);
      },
    },
    env: options.env ?? {},
    isTty: options.isTty ?? false,
    columns: options.columns ?? 80,
    signal: stopping.signal,
    onHangup: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    clock: new FakeClock(),
    random: new SystemRandom(),
    version: "9.8.7",
    out: () => written.out,
    err: () => written.err,
    terminate: () => stopping.abort(),
    hangUp: () => {
      for (const listener of listeners) listener();
    },
  };
}

export interface Outcome {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

export async function cli(
  argv: readonly string[],
  options: WorldOptions = {},
  subcommands?: readonly LazySubcommand[],
): Promise<Outcome> {
  const context = world(options);
  const status = await runCli(argv, context, subcommands);
  return { status, out: context.out(), err: context.err() };
}

/** Asking a child process over its IPC channel, one question at a time. */
import { type ChildProcess, type ForkOptions, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export type Question = { readonly do: string } & Readonly<Record<string, unknown>>;

export class Child {
  readonly #process: ChildProcess;
  #ended = false;

  private constructor(child: ChildProcess) {
    this.#process = child;
    child.once("exit", () => {
      this.#ended = true;
    });
  }

  static async start(
    script: string,
    args: readonly string[],
    options: Pick<ForkOptions, "execArgv" | "env"> = {},
  ): Promise<Child> {
    const path = fileURLToPath(new URL(script, import.meta.url));
    const child = fork(path, [...args], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      ...options,
    });
    const started = new Child(child);
    await started.#answer();
    return started;
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  async ask<T = unknown>(question: Question): Promise<T> {
    const answer = this.#answer();
    this.#process.send(question);
    return (await answer) as T;
  }

  async stop(): Promise<void> {
    if (this.#ended) return;
    const exit = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await exit;
  }

  async #answer(): Promise<unknown> {
    const over = new AbortController();
    const gone = once(this.#process, "exit", { signal: over.signal }).then(([code, signal]) => {
      throw new Error(`A process of the benchmark ended early: ${code ?? signal}.`);
    });
    gone.catch(() => undefined);
    try {
      const [answer] = (await Promise.race([once(this.#process, "message"), gone])) as [
        { readonly ok: unknown } | { readonly error: string },
      ];
      if ("error" in answer) throw new Error(answer.error);
      return answer.ok;
    } finally {
      over.abort();
    }
  }
}

/** The child's side: says that it is ready, then answers each question by the entry of its name. */
export function answerQuestions(
  // biome-ignore lint/suspicious/noExplicitAny: both sides of the channel are in this folder
  answers: Readonly<Record<string, (question: any) => unknown>>,
): void {
  process.on("message", (question: Question) => {
    void (async () => {
      try {
        process.send?.({ ok: (await answers[question.do]?.(question)) ?? null });
      } catch (error) {
        process.send?.({
          error: error instanceof Error ? (error.stack ?? error.message) : String(error),
        });
      }
    })();
  });
  process.once("disconnect", () => process.exit());
  process.send?.({ ok: null });
}

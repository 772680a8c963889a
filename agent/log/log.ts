/**
 * The log: one JSON object a line, `time`, `level`, `event`, `component`, then the fields.
 *
 * Invariants
 * - Logging never throws, never waits and never grows: while the stream takes nothing (a stuck
 *   journal), lines wait in a bounded buffer; what does not fit is dropped and counted, and the
 *   count follows them as soon as the stream moves again. After a restart the buffer is gone.
 * - A line has a bounded length, whatever is put into a field.
 * - Only plain values are printed. An object, a secret among them, is printed as `[object]`.
 *
 * Time comes from the clock that is given, so it is as right as the device knows.
 */
import type { Clock } from "../core/clock.ts";
import { type LogFields, type Logger, type LogLevel, logLevels } from "../core/log.ts";
import { formatLine } from "./line.ts";

export { RepeatLog } from "./repeat-log.ts";

/** What the log needs of a stream; `process.stderr` fits. */
export interface LogStream {
  /** False: the stream is full, and emits `drain` when it is not any more. */
  write(text: string): boolean;
  on(event: "drain", listener: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
}

export interface LogOptions {
  readonly level: LogLevel;
  /** Characters that wait at most while the stream takes nothing. */
  readonly maxBufferedChars?: number;
}

const MAX_BUFFERED_CHARS = 262_144;

/** The root; parts get a `child` of it. */
export class Log implements Logger {
  readonly #output: Output;
  readonly #logger: Logger;

  constructor(options: LogOptions, deps: { readonly stream: LogStream; readonly clock: Clock }) {
    this.#output = new Output(options, deps);
    this.#logger = new ComponentLogger(undefined, this.#output);
  }

  debug(event: string, fields?: LogFields): void {
    this.#logger.debug(event, fields);
  }

  info(event: string, fields?: LogFields): void {
    this.#logger.info(event, fields);
  }

  warn(event: string, fields?: LogFields): void {
    this.#logger.warn(event, fields);
  }

  error(event: string, fields?: LogFields): void {
    this.#logger.error(event, fields);
  }

  child(component: string): Logger {
    return this.#logger.child(component);
  }

  /** For a reload; children follow at once. */
  setLevel(level: LogLevel): void {
    this.#output.level = level;
  }

  /** Lines that were lost since the start because nobody took them. */
  get dropped(): number {
    return this.#output.dropped;
  }
}

class ComponentLogger implements Logger {
  readonly #component: string | undefined;
  readonly #output: Output;

  constructor(component: string | undefined, output: Output) {
    this.#component = component;
    this.#output = output;
  }

  debug(event: string, fields: LogFields = {}): void {
    this.#output.line("debug", this.#component, event, fields);
  }

  info(event: string, fields: LogFields = {}): void {
    this.#output.line("info", this.#component, event, fields);
  }

  warn(event: string, fields: LogFields = {}): void {
    this.#output.line("warn", this.#component, event, fields);
  }

  error(event: string, fields: LogFields = {}): void {
    this.#output.line("error", this.#component, event, fields);
  }

  child(component: string): Logger {
    const name = this.#component === undefined ? component : `${this.#component}.${component}`;
    return new ComponentLogger(name, this.#output);
  }
}

class Output {
  level: LogLevel;
  dropped = 0;
  readonly #stream: LogStream;
  readonly #clock: Clock;
  readonly #maxChars: number;
  #state: "flowing" | "full" | "broken" = "flowing";
  #waiting: string[] = [];
  #waitingChars = 0;
  #reported = 0;

  constructor(
    { level, maxBufferedChars = MAX_BUFFERED_CHARS }: LogOptions,
    { stream, clock }: { readonly stream: LogStream; readonly clock: Clock },
  ) {
    this.level = level;
    this.#maxChars = maxBufferedChars;
    this.#stream = stream;
    this.#clock = clock;
    stream.on("drain", () => this.#drain());
    // Nobody is left to tell, and the agent goes on without its log.
    stream.on("error", () => this.#break());
  }

  line(level: LogLevel, component: string | undefined, event: string, fields: LogFields): void {
    if (logLevels.indexOf(level) < logLevels.indexOf(this.level)) return;
    const head = { time: new Date(this.#clock.wallMs()).toISOString(), level, event };
    const text = formatLine(component === undefined ? head : { ...head, component }, fields);
    if (this.#state === "flowing") this.#write(text);
    else if (this.#state === "full" && this.#waitingChars + text.length <= this.#maxChars) {
      this.#waiting.push(text);
      this.#waitingChars += text.length;
    } else this.dropped++;
  }

  #write(text: string): void {
    if (!this.#stream.write(text) && this.#state === "flowing") this.#state = "full";
  }

  /** The oldest lines tell how it began, so they were kept, and the count comes after them. */
  #drain(): void {
    if (this.#state === "broken") return;
    this.#state = "flowing";
    const text = this.#waiting.join("");
    this.#waiting = [];
    this.#waitingChars = 0;
    if (text !== "") this.#write(text);
    const lost = this.dropped - this.#reported;
    if (lost === 0) return;
    this.#reported = this.dropped;
    this.line("warn", "log", "lines dropped", { count: lost });
  }

  #break(): void {
    this.#state = "broken";
    this.dropped += this.#waiting.length;
    this.#waiting = [];
    this.#waitingChars = 0;
  }
}

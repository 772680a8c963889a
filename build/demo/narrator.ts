/**
 * What the demo says: one step a line, with the time since the start and who it is about; in colour
 * on a terminal, plain in a pipe. Below the lines there may be one live line, which a terminal
 * shows in place and a pipe gets now and then.
 */
import { stripVTControlCharacters, styleText } from "node:util";

export type Format = Parameters<typeof styleText>[0];

/** In a pipe nobody wants a line a second. */
const PIPE_LIVE_MS = 10_000;
const ERASE_LINE = "\r\u001b[2K";

const formats = {
  demo: "bold",
  service: "blue",
  agent: "green",
  producer: "cyan",
  commander: "magenta",
  link: "yellow",
  auditor: "cyan",
} as const satisfies Record<string, Format>;
export type Who = keyof typeof formats;

export class Narrator {
  readonly #out: NodeJS.WriteStream;
  readonly #startMs = performance.now();
  #live = "";
  #liveAtMs = Number.NEGATIVE_INFINITY;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  get isTty(): boolean {
    return this.#out.isTTY === true;
  }

  style(format: Format, text: string): string {
    return styleText(format, text, { stream: this.#out });
  }

  /** A step: when, who, what. */
  tell(who: Who, text: string): void {
    const name = this.style(formats[who], who.padEnd(9));
    this.say(`${this.style("dim", this.#time())}  ${name}  ${text}`);
  }

  /** More about the step before. */
  detail(text: string): void {
    for (const line of text.trimEnd().split("\n")) this.say(`${" ".repeat(21)}${line}`);
  }

  /** A line of its own. */
  say(text = ""): void {
    this.#write(`${text}\n`);
  }

  /** Replaces the live line. */
  live(text: string): void {
    if (this.isTty) {
      this.#live = cut(text, (this.#out.columns || 80) - 1);
      this.#write("");
      return;
    }
    if (performance.now() - this.#liveAtMs < PIPE_LIVE_MS) return;
    this.#liveAtMs = performance.now();
    this.say(`${this.#time()}  ${text}`);
  }

  /** Takes the live line away. */
  endLive(): void {
    this.#live = "";
    this.#write("");
  }

  #time(): string {
    return `${((performance.now() - this.#startMs) / 1000).toFixed(1).padStart(6)} s`;
  }

  #write(lines: string): void {
    this.#out.write(this.isTty ? `${ERASE_LINE}${lines}${this.#live}` : lines);
  }
}

/** A line that wraps could not be erased. */
function cut(text: string, columns: number): string {
  const plain = stripVTControlCharacters(text);
  return plain.length > columns ? plain.slice(0, columns) : text;
}

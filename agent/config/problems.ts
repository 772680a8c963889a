import { HoldfastError } from "../core/errors.ts";
import { formatPath, formatWhere, type Where } from "./node.ts";

/** A file of garbage must not fill the terminal or the log. */
const MAX_LINES = 100;
const MAX_KEY_CHARS = 200;

export interface Problem {
  readonly where: Where | undefined;
  readonly path: readonly string[];
  /** What is wrong; what was expected. */
  readonly message: string;
}

/**
 * Everything that is wrong with a configuration, so that an operator repairs it in one go. An
 * exposed secret is kept apart because it has its own error code.
 */
export class Problems {
  readonly #problems: Problem[] = [];
  readonly #exposed: string[] = [];

  add(where: Where | undefined, path: readonly string[], message: string): void {
    this.#problems.push({ where, path, message });
  }

  /** `name` can be read by others although it holds the secret at `path`. */
  addExposed(name: string, path: readonly string[], mode: number): void {
    const bits = mode.toString(8).padStart(4, "0");
    this.#exposed.push(
      `${name}: ${formatPath(path)}: group or others can read this file (mode ${bits}), ` +
        `and it holds a secret; expected mode 0600: chmod 600 ${name}`,
    );
  }

  /** Throws as `throwIfAny` when a whole file is missing: everything else would be guesswork. */
  throwIfUnreadable(): void {
    if (this.#problems.some((p) => p.path.length === 0 && p.where?.source === "file")) {
      this.throwIfAny();
    }
  }

  /** True when the key or something above or below it is known to be wrong. */
  touches(path: readonly string[]): boolean {
    return this.#problems.some(
      (p) => p.path.length > 0 && path.every((part, i) => (p.path[i] ?? part) === part),
    );
  }

  get count(): number {
    return this.#problems.length + this.#exposed.length;
  }

  /** Throws `config_invalid` or `secret_exposed` with one line for each problem, if there is one. */
  throwIfAny(): void {
    if (this.count === 0) return;
    const head =
      this.count === 1
        ? "The configuration is wrong:"
        : `The configuration is wrong in ${this.count} places:`;
    // Exposed secrets first: a long list of other mistakes must not push them out.
    const lines = [...this.#exposed, ...this.#problems.slice(0, MAX_LINES).map(formatProblem)];
    if (this.count > lines.length) lines.push(`... and ${this.count - lines.length} more`);
    const code = this.#exposed.length > 0 ? "secret_exposed" : "config_invalid";
    throw new HoldfastError(code, [head, ...lines].join("\n"), {
      details: { problems: this.count },
    });
  }
}

function formatProblem({ where, path, message }: Problem): string {
  const key = path.length > 0 ? formatPath(path).slice(0, MAX_KEY_CHARS) : undefined;
  const parts = [where && formatWhere(where), key];
  return [...parts.filter((part) => part !== undefined), message].join(": ");
}

/** ` Did you mean "x"?`, or nothing when no known name is near. */
export function didYouMean(given: string, known: readonly string[]): string {
  const limit = Math.floor(given.length / 3);
  let best: string | undefined;
  let bestDistance = limit + 1;
  for (const name of known) {
    // A name of another length is at least that far away.
    if (Math.abs(name.length - given.length) >= bestDistance) continue;
    const distance = editDistance(given.toLowerCase(), name.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best === undefined ? "" : `, did you mean ${best}?`;
}

/** Insertions, deletions and replacements from `a` to `b`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

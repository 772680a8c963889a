/**
 * A part with a life. Its constructor only assigns; `start` resolves when others may rely on it,
 * and what it leaves running ends when `signal` aborts; `stop` first refuses new work, then drains
 * until `deadline` aborts, then lets go of everything. Both may be called again without effect.
 */
export interface Component {
  readonly name: string;
  start(signal: AbortSignal): Promise<void>;
  stop(deadline: AbortSignal): Promise<void>;
  /** What a doctor may ask of this part. */
  checks?(): readonly Check[];
}

export interface Check {
  /** Dotted, unique: `store.writable`. */
  readonly name: string;
  run(signal: AbortSignal): Promise<CheckResult>;
}

export interface CheckResult {
  readonly status: "ok" | "warn" | "fail";
  /** One sentence for the operator. */
  readonly message: string;
  /** What to do about it, where something can be done. */
  readonly remedy?: string;
}

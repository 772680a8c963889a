/**
 * What the operating system can say about itself: which boot this is, and whether its clock can be
 * believed. Later also systemd's side (notify, unit, install).
 */
import { readFileSync, statSync } from "node:fs";

/** The kernel's id of this boot; undefined where there is none (not Linux). */
export function readBootId(path = "/proc/sys/kernel/random/boot_id"): string | undefined {
  const text = readText(path)?.trim();
  return text !== undefined && /^[0-9a-f-]{36}$/.test(text) ? text : undefined;
}

export type ClockTrust = "auto" | "always";

export interface TrustSources {
  /** Exists once systemd-timesyncd has set the clock in this boot. */
  readonly synchronizedFile: string;
  /** Exists where a clock with a battery kept the time while the board was off. */
  readonly hardwareClock: string;
}

const systemTrustSources: TrustSources = {
  synchronizedFile: "/run/systemd/timesync/synchronized",
  hardwareClock: "/sys/class/rtc/rtc0",
};

/** Nothing was released before this: 2026-01-01. A clock before it has certainly never been set. */
const FLOOR_MS = 1_767_225_600_000;
const LOOK_AGAIN_MS = 5_000;

export interface TrustState {
  readonly trusted: boolean;
  /** What vouched for it, or `none`. */
  readonly source: "configuration" | "timesync" | "hardware" | "none";
}

/**
 * Whether the wall time is vouched for. It is asked often, and the answer may come late on a board
 * without a clock, so the files are looked at again every few seconds until they say yes. A clock
 * that has gone back behind the floor loses its trust.
 */
export class ClockTruster {
  readonly #trust: ClockTrust;
  readonly #sources: TrustSources;
  readonly #wallMs: () => number;
  readonly #monotonicMs: () => number;
  #vouched: TrustState["source"] = "none";
  #lookAgainMs = Number.NEGATIVE_INFINITY;

  constructor(
    options: { readonly trust: ClockTrust; readonly sources?: TrustSources },
    clock: { wallMs(): number; monotonicMs(): number },
  ) {
    this.#trust = options.trust;
    this.#sources = options.sources ?? systemTrustSources;
    this.#wallMs = () => clock.wallMs();
    this.#monotonicMs = () => clock.monotonicMs();
  }

  state(): TrustState {
    if (this.#trust === "always") return { trusted: true, source: "configuration" };
    if (this.#wallMs() < FLOOR_MS) return { trusted: false, source: "none" };
    if (this.#vouched === "none" && this.#monotonicMs() >= this.#lookAgainMs) {
      this.#lookAgainMs = this.#monotonicMs() + LOOK_AGAIN_MS;
      if (exists(this.#sources.synchronizedFile)) this.#vouched = "timesync";
      else if (exists(this.#sources.hardwareClock)) this.#vouched = "hardware";
    }
    return { trusted: this.#vouched !== "none", source: this.#vouched };
  }
}

function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch {
    return false;
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

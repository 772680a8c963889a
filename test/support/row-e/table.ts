/**
 * Job E: what a kill -9 and a power cut cost. Kills hit real processes over the real database; power
 * cuts the simulated disk, whose unsynced part is lost.
 */
export const WINDOW = 64;
export const SETTLE_EVERY = 256;
export const TOPICS = ["up/a/telemetry", "up/b/telemetry"] as const;

export type Fault = "kill -9" | "power cut";
export type LinkState = "offline" | "online";

export interface RunFigures {
  readonly accepted: number;
  readonly lost: number;
  readonly outOfOrder: number;
  readonly duplicates: number;
}

export interface Row {
  readonly fault: Fault;
  readonly link: LinkState;
  readonly runs: readonly RunFigures[];
}

/** Duplicates that one such fault may cause. */
function allowedDuplicates(fault: Fault): number {
  return fault === "kill -9" ? WINDOW : WINDOW + SETTLE_EVERY;
}

function sumOf(runs: readonly RunFigures[], key: keyof RunFigures): number {
  return runs.reduce((sum, run) => sum + run[key], 0);
}

function worstOf(runs: readonly RunFigures[]): number {
  return Math.max(0, ...runs.map(({ duplicates }) => duplicates));
}

export function isKept({ fault, runs }: Row): boolean {
  const wrong = sumOf(runs, "lost") + sumOf(runs, "outOfOrder");
  return wrong === 0 && worstOf(runs) <= allowedDuplicates(fault);
}

export function tableOf(rows: readonly Row[]): string {
  const lines = rows.map(({ fault, link, runs }) => {
    const cells = [
      ...[fault, link, runs.length, sumOf(runs, "accepted")],
      ...[sumOf(runs, "lost"), sumOf(runs, "outOfOrder"), sumOf(runs, "duplicates")],
      ...[worstOf(runs), allowedDuplicates(fault)],
    ];
    return `| ${cells.join(" | ")} |`;
  });
  const heads = ["fault", "link", "runs", "accepted", "lost", "out of order", "duplicates"];
  return [
    `E: window ${WINDOW}, settle_every ${SETTLE_EVERY}`,
    `| ${[...heads, "most in one run", "allowed in one"].join(" | ")} |`,
    `|${" --- |".repeat(9)}`,
    ...lines,
  ].join("\n");
}

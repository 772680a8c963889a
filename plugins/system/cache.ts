/**
 * Remembers an answer for a while, and lets everyone who asks meanwhile share one question, so that
 * a thousand commands a second cost one reading of the machine. A question without an answer is not
 * asked again, however old it is: a tool that hangs on a dead network share would pile up.
 */
export function cached<T>(ageMs: number, read: () => Promise<T>): (nowMs: number) => Promise<T> {
  let kept: { readonly atMs: number; readonly answer: Promise<T>; open: boolean } | undefined;
  return (nowMs) => {
    if (kept?.open) return kept.answer;
    const age = kept === undefined ? Number.POSITIVE_INFINITY : nowMs - kept.atMs;
    if (kept !== undefined && age >= 0 && age < ageMs) return kept.answer;
    const mine = { atMs: nowMs, answer: read(), open: true };
    kept = mine;
    mine.answer.then(
      () => {
        mine.open = false;
      },
      () => {
        kept = undefined; // A failure is not remembered.
      },
    );
    return mine.answer;
  };
}

/**
 * Remembers an answer for a while, and lets everyone who asks meanwhile share one question, so that
 * a thousand commands a second cost one reading of the machine.
 */
export function cached<T>(ageMs: number, read: () => Promise<T>): (nowMs: number) => Promise<T> {
  let kept: { readonly atMs: number; readonly answer: Promise<T> } | undefined;
  return (nowMs) => {
    const age = kept === undefined ? Number.POSITIVE_INFINITY : nowMs - kept.atMs;
    if (kept !== undefined && age >= 0 && age < ageMs) return kept.answer;
    const answer = read();
    const mine = { atMs: nowMs, answer };
    kept = mine;
    answer.catch(() => {
      if (kept === mine) kept = undefined; // A failure is not remembered.
    });
    return answer;
  };
}

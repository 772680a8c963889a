/**
 * A broken assumption of ours, as opposed to an operating error: it crashes the process, and the
 * service manager starts it again from the state on disk, which is the one state we trust.
 */
export class AssertionFailure extends Error {
  override readonly name = "AssertionFailure";
}

export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message);
}

/** For the `default` of a switch over a union: the compiler finds the forgotten case. */
export function unreachable(value: never): never {
  throw new AssertionFailure(`unreachable: ${JSON.stringify(value)}`);
}

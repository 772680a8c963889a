import { agentTable, listKeys, Secret } from "../config/config.ts";

/** What a running agent takes over; every other change waits for a restart. */
const TAKEN_OVER: ReadonlySet<string> = new Set(
  listKeys(agentTable)
    .filter(({ key }) => key.reloadable)
    .map(({ path }) => path.join(".")),
);

/** Dotted keys of which the value differs, those first that a running agent takes over. */
export function changedKeys(
  before: object,
  after: object,
): { readonly taken: readonly string[]; readonly waiting: readonly string[] } {
  const old = new Map(leaves(before, ""));
  const now = new Map(leaves(after, ""));
  const keys = [...new Set([...old.keys(), ...now.keys()])];
  const changed = keys.filter((key) => old.get(key) !== now.get(key));
  return {
    taken: changed.filter((key) => TAKEN_OVER.has(key)),
    waiting: changed.filter((key) => !TAKEN_OVER.has(key)),
  };
}

/** Lists and secrets are leaves; a secret is compared by what it hides, and never shown. */
function* leaves(value: object, prefix: string): Iterable<[string, string]> {
  for (const [name, member] of Object.entries(value)) {
    const key = prefix === "" ? name : `${prefix}.${name}`;
    if (member instanceof Secret) yield [key, member.reveal()];
    else if (typeof member === "object" && member !== null && !Array.isArray(member)) {
      yield* leaves(member, key);
    } else yield [key, JSON.stringify(member) ?? ""];
  }
}

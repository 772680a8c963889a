import { topicMatches } from "../../agent/protocol/topics.ts";

/** Whether a resource of a token covers a topic to publish to. */
export function coversTopic(resource: string, topic: string): boolean {
  return topicMatches(resource, topic);
}

/**
 * Whether a resource of a token covers a filter to subscribe to: every topic that the filter can
 * take is one that the resource takes. One resource must do it alone.
 */
export function coversFilter(resource: string, filter: string): boolean {
  const allowed = resource.split("/");
  const wanted = filter.split("/");
  for (const [i, level] of allowed.entries()) {
    // It takes its own parent level, whatever is below it, and any filter there.
    if (level === "#") return true;
    const given = wanted[i];
    if (given === undefined || given === "#") return false;
    if (level !== "+" && level !== given) return false;
  }
  return wanted.length === allowed.length;
}

import { topicMatches } from "../../agent/protocol/topics.ts";

/**
 * Whether a resource of a token covers a topic to publish to. Asked at each publish for each
 * resource, so what differs before the first wildcard is not taken apart.
 */
export function coversTopic(resource: string, topic: string): boolean {
  const plus = resource.indexOf("+");
  const wildAt = plus < 0 ? resource.indexOf("#") : plus;
  if (wildAt < 0) return resource === topic;
  // Up to the slash before the wildcard, which a topic that ends there lacks.
  const literal = resource.slice(0, wildAt - 1);
  return topic.startsWith(literal) && topicMatches(resource, topic);
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

/** What a consumer asks for: `connect||tcpclean`, or everything. */
export interface TagFilter {
  readonly text: string;
  /** Undefined: any tag, and none. */
  readonly tags: ReadonlySet<string> | undefined;
}

/** A `*` and an empty text stand for everything. Undefined for what is no list of tags. */
export function parseTags(text: string): TagFilter | undefined {
  if (text === "" || text === "*") return { text: "", tags: undefined };
  const tags = text.split("||").map((tag) => tag.trim());
  if (!tags.every(isTag)) return undefined;
  return { text: tags.join("||"), tags: new Set(tags) };
}

/** Letters, digits and the usual signs between them; at most 64 characters. */
export function isTag(text: string): boolean {
  return /^[0-9A-Za-z._:-]{1,64}$/.test(text);
}

export function matchesTag({ tags }: TagFilter, tag: string): boolean {
  return tags === undefined || tags.has(tag);
}

export function matchesPack(filter: TagFilter, tags: readonly string[]): boolean {
  return tags.some((tag) => matchesTag(filter, tag));
}

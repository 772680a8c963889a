/** What the service knows: accounts, the instance, its groups and its parent topics. */
export interface Directory {
  /** Secret by access key. */
  readonly accounts: ReadonlyMap<string, string>;
  readonly instanceId: string;
  readonly groups: ReadonlySet<string>;
  /** By the name of the parent topic. */
  readonly topics: ReadonlyMap<string, TopicEntry>;
}

export interface TopicEntry {
  readonly ordered: boolean;
}

/** The part of the limits that decisions need; lmq-protocol 1.1 and 1.2, in characters. */
export interface AccessLimits {
  readonly clientIdMax: number;
  readonly topicMax: number;
  /** How far a request's timestamp may be from the service's time, in milliseconds. */
  readonly timestampWindowMs: number;
}

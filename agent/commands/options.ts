import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import type { IncomingMessage } from "../core/message.ts";
import type { Random } from "../core/random.ts";
import type { StagingOutbox } from "../outbox/outbox.ts";
import type { Profile } from "../protocol/client-id.ts";
import type { Store } from "../store/store.ts";
import type { Dispatcher } from "./dispatcher.ts";

export interface CommandsOptions {
  /** Our own. */
  readonly clientId: string;
  readonly profile: Profile;
  /** Parent topics. */
  readonly up: string;
  readonly down: string;
  /** The longest topic that the service takes, in characters. */
  readonly topicMax: number;
  /** Patterns of command names that need no signature; `*` stands for any run of characters. */
  readonly allowUnsigned: readonly string[];
  /** Patterns of topics that a sender may ask replies on; `{up}` and `{down}` are the parents. */
  readonly replyTo: readonly string[];
  /** A second and sender, for all but the final replies of admitted commands. */
  readonly replyRate: number;
  /** Commands that wait for a plugin, and those whose end waits for the disk. */
  readonly maxQueued: number;
  /** Names this run of the agent, a ULID: no two starts of the process have the same. */
  readonly runId: string;
  /** Names the boot of the kernel: within one, the monotonic times of two runs can be compared. */
  readonly bootId: string;
  /** How many commands of a plugin may run at once; 1 unless given. */
  readonly concurrency?: (plugin: string) => number;
  /** Whether a command only reads, so that it may run without a record; none does unless given. */
  readonly readsOnly?: (command: string) => boolean;
  /** How long a command may run; 300 s unless given. */
  readonly deadlineMs?: number;
  readonly journal?: Partial<JournalBounds>;
}

export interface JournalBounds {
  /** A finished command is forgotten when it is older than this, */
  readonly maxAgeMs: number;
  /** or when there are more than these; but not before its expiresAt, see `Journal`. */
  readonly maxEntries: number;
  readonly maxBytes: number;
}

export interface CommandsDeps {
  readonly store: Store;
  readonly outbox: StagingOutbox;
  readonly dispatcher: Dispatcher;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** Where commands come from; a session fits it by its shape. */
export interface Inbound {
  messages(signal: AbortSignal): AsyncIterable<IncomingMessage>;
}

/** Takes a message that is no command; true: it is taken over, `accept` included. */
export type Router = (message: IncomingMessage) => boolean;

export const REPLY_LANE = "reply";

/** Bounds of this folder that nobody configures. */
export const bounds = {
  /** Messages between the reader and the journal; above it the session holds the rest back. */
  inboundMessages: 512,
  /** The part of `maxQueued` that one plugin may take. */
  pluginShare: 0.75,
  /** Bytes of the commands that have not ended, parameters included. */
  unfinishedBytes: 8_388_608,
  /** Commands in one synced commit. */
  admissionBatch: 256,
  /** Replies that are not promised and wait in the outbox for the disk; more are let go. */
  pendingReplies: 256,
  /** Senders whose reply rate is remembered. */
  senders: 1_024,
  /** The reply rate of all senders together, as a multiple of one's. */
  totalReplyRate: 10,
  /** After this a command that still waits or runs says so. */
  noticeAfterMs: 2_000,
  defaultDeadlineMs: 300_000,
  /** Without a record: commands that run at once, each at most so long; answers remembered. */
  unrecordedRunning: 16,
  unrecordedDeadlineMs: 30_000,
  unrecordedReplies: 256,
  unrecordedBytes: 1_048_576,
  /** Records read at once when the journal is opened. */
  openStep: 1_000,
  /** Journal entries read at once, and the pause after, when all are looked over after a start. */
  lookOverStep: 32,
  lookOverEveryMs: 50,
  /** Journal entries looked at in one step of pruning. */
  pruneStep: 256,
  pruneEveryMs: 60_000,
  /** Over this multiple of the journal's bounds nothing more is admitted. */
  journalOverflow: 2,
  /** Down to this multiple a board that can prove no time forgets commands of earlier boots. */
  journalFloor: 1.5,
  /** What proven time must exceed a command's life by. */
  lifeMarginMs: 600_000,
  unreadableLogEveryMs: 60_000,
  errorMessageChars: 512,
  finishRetry: { minMs: 100, maxMs: 30_000 },
} as const;

export const defaultJournalBounds: JournalBounds = {
  maxAgeMs: 30 * 86_400_000,
  maxEntries: 10_000,
  maxBytes: 16_777_216,
};

/**
 * What holds fast to every outgoing message until the service has it.
 *
 * Promises kept here: I1 (accepted means safe), I2 (order within a stream), I3 (a duplicate has the
 * same id and bytes, and there are few), I6 and I7 in part (bounds by count and bytes per lane), I13
 * (what is let go is counted and reported).
 *
 * A message's way: `put` encodes it once as a PUBLISH packet, gives it the next id and appends it to
 * its lane. From there two things may make it safe, and the first resolves the put: the service's
 * acknowledgement (`settle`), or a synced record. A record holds up to 32 messages of one lane;
 * waiting messages of all callers share one synced commit. While the link is up a message is written
 * only after the persist delay, so that a prompt acknowledgement saves the write; while it is down
 * the delay is 0.
 *
 * In memory a lane is four queues, read in this order: `loaded` (read back from disk, next to be
 * sent), `runs` (read back too, and not taken apart: run.ts), `stored` (records on disk, of up to 32
 * messages, 28 bytes for each record: stored-queue.ts), `tail` (accepted or being accepted, not yet
 * let go from memory). A backlog goes out as slices of runs and is settled by masks of them; an
 * object for each message is made only where one has to be looked at. The tail is spilled into `stored`
 * when it grows and all of its head is on disk, so memory hardly grows with the backlog. Of what is gone
 * the ledger keeps runs, so it does not grow with time either.
 *
 * On disk: table `outbox`, key `<lane>/<record number>`, and table `ledger`, which says for every
 * record number whether the record is gone. A deletion and its ledger entry are one batch, hence a
 * number that is neither present nor in the ledger is damage. Settlements are committed behind, at
 * most `settleEvery` messages or one second: what a power cut can repeat. Until then they are noted
 * in a volatile log, which a kill of the process does not touch: it repeats the window at most. While
 * `settleEvery` messages are not committed, no more are taken, unless the disk fails.
 *
 * What the service answers by closing the connection is found by the forwarder (suspicion.ts) and goes
 * to the quarantine (quarantine.ts): table `quarantine`, with bounds of its own, outside the lanes.
 *
 * Lanes of one priority share the drain (share.ts); a lane may keep only the newest message of a key
 * (latest.ts) and may send CloudEvents (cloudevents.ts).
 *
 * Full: a lane refuses (`lane_full`) or lets its oldest messages go, as configured. For the quota
 * (`makeRoom`) the least important of the lanes that may drop give way. Without room on the disk
 * lanes of priority 4 and below are refused first; the store keeps a reserve for those above, and so
 * does the memory for what neither disk nor service has. Too old: messages go when they are taken, at
 * the head of a lane when it is looked at (`tidy`), or when a lane that refuses is full. What went is
 * counted by lane and reason in table `gaps` (losses.ts), in the commit that deletes it, noted in the
 * volatile log until then, and reported once (gap-reporter.ts). A disk that does not take writes:
 * while the link is up, puts succeed by acknowledgement alone; while it is down they are refused with
 * `store_not_writable`; sending goes on.
 * Restarted: the records are listed from the ledger's head on, in the lanes where one can be
 * (listing.ts); what was sent and not yet noted as
 * settled goes out again with its id and bytes; producers' ids are known again from them, and after a kill from
 * their own volatile log (producer-notes.ts). Corrupt:
 * a record with a broken seal, and a number that is missing (listing.ts), is let go for `damage`.
 */
export { DurableOutbox, type OutboxOptions } from "./durable-outbox.ts";
export { Forwarder, type Publisher } from "./forwarder.ts";
export type { LaneOptions } from "./lane.ts";
export { countMissing } from "./missing.ts";
export type {
  Outgoing,
  Reservation,
  Staged,
  StagingOutbox,
} from "./port.ts";

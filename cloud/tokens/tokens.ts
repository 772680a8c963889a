/**
 * Tokens (lmq-protocol 4): issued, opened, revoked.
 *
 * A token carries everything in itself, sealed (seal.ts); the service remembers only which ones were
 * revoked. So issuing costs no disk, a device's connect is judged without one, and tokens survive
 * whatever the key survives.
 *
 * Invariants
 * - `revoke` resolves when the revocation is synced; it counts from that moment on, here and after
 *   any crash, until the token would have expired. Then the record goes.
 * - Expiry is judged by token-time.ts: a wall clock that jumps revives nothing and kills nothing.
 *   Where a crash and a clock that is set back come together, the last minute may be lived again.
 * - The sealing key is made of the service's key (a file, 0600) and a salt in the database: tokens
 *   without their revocations are no tokens. Who reads only one of the two can forge nothing.
 * - A token knows its account's secret by a keyed hash: changing the secret voids it.
 * - No token and no key is ever part of a log line or of an error.
 *
 * On disk: table `cloud_revoked` id -> expiry; `cloud_tokens`, one record: salt and time.
 * Full: beyond `revoked` entries `revoke` throws `too_many`. A damaged revocation counts as one of
 * the longest life; in a database that had to be repaired, or without a readable salt, a new salt is
 * made and all tokens are void, for some that were revoked may be missing.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Clock } from "../../agent/core/clock.ts";
import { describeError, HoldfastError, isHoldfastError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import type { Random } from "../../agent/core/random.ts";
import { RepeatLog } from "../../agent/log/log.ts";
import type { Store, Table, Write } from "../../agent/store/store.ts";
import {
  type Directory,
  type TokenApplication,
  type TokenFault,
  type TokenGrant,
  type TokenKeeper,
  tokenFault,
} from "../access/access.ts";
import { contentOf, type TokenContent, toContent } from "./content.ts";
import { type Revocation, revocationCodec, stateCodec, type TokenState } from "./records.ts";
import { seal, TOKEN_ID_BYTES, unseal } from "./seal.ts";
import { TokenTime } from "./token-time.ts";

export { loadTokenKey } from "./token-key.ts";

export interface TokensOptions {
  /** Milliseconds; how long a revocation whose record is damaged is kept. */
  readonly maxLifeMs: number;
  /** Revoked tokens that are not expired yet. */
  readonly revoked: number;
}

export interface TokensDeps {
  readonly store: Store;
  readonly directory: () => Directory;
  readonly key: () => Promise<Uint8Array>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Whether the store had to be repaired at its start: revocations may be lost. */
  readonly wasRepaired?: () => boolean;
}

/** How often time is looked at, and what has expired is let go, in milliseconds. */
const TICK_MS = 10_000;
/** How often the time reached is written, where tokens are used: what a power cut may forget. */
const SAVE_MS = 60_000;
const PAGE = 1_000;
const SALT_BYTES = 16;
const PROOF_BYTES = 16;
const STATE = "state";

export class Tokens implements TokenKeeper {
  readonly #options: TokensOptions;
  readonly #deps: TokensDeps;
  readonly #time: TokenTime;
  readonly #troubles: RepeatLog;
  readonly #revokedTable: Table<Revocation>;
  readonly #stateTable: Table<TokenState>;
  readonly #revoked = new Map<string, Revocation>();
  #key: Uint8Array = Buffer.alloc(0);
  #salt = "";
  /** Time was asked for since the state was written: a restart must not be earlier than that. */
  #isUsed = false;
  #savedEpoch = 0;
  #savedAtMs = 0;
  #ticking: Promise<void> | undefined;

  constructor(options: TokensOptions, deps: TokensDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#time = new TokenTime(deps.clock);
    this.#troubles = new RepeatLog({}, deps);
    this.#revokedTable = deps.store.table("cloud_revoked", revocationCodec);
    this.#stateTable = deps.store.table("cloud_tokens", stateCodec);
  }

  /** Reads what is there, or writes the first state; from then on forgets until `signal` aborts. */
  async start(signal: AbortSignal): Promise<void> {
    const state = await this.#readState();
    this.#time.start(state?.time);
    this.#savedEpoch = state?.time.epoch ?? 0;
    this.#salt = state?.salt ?? this.#makeSalt();
    await this.#readRevoked();
    if (!state || this.#time.epoch !== this.#savedEpoch) await this.#save([]);
    const key = await this.#deps.key();
    this.#key = createHmac("sha256", key).update(`tokens\0${this.#salt}`).digest();
    this.#ticking = this.#tickForever(signal);
  }

  /** After the signal of `start` aborted: resolves when the time reached is written. */
  async stop(): Promise<void> {
    await this.#ticking;
    if (this.#isUsed) await this.#save([]).catch(() => undefined);
  }

  /** Unix milliseconds, by which tokens live. */
  nowMs(): number {
    this.#isUsed = true;
    return this.#time.nowMs();
  }

  /** How many revoked tokens are remembered. */
  get revoked(): number {
    return this.#revoked.size;
  }

  issue(application: TokenApplication): { readonly id: string; readonly token: string } {
    const { accounts, instanceId } = this.#deps.directory();
    const { accessKey } = application;
    const secret = accounts.get(accessKey);
    if (secret === undefined) throw new HoldfastError("not_found", "There is no such account.");
    const id = this.#deps.random.bytes(TOKEN_ID_BYTES);
    const { epoch } = this.#time;
    const proof = this.#proofOf(accessKey, secret).toString("base64");
    const content = toContent({ ...application, instanceId, epoch, proof });
    return { id: nameOf(id), token: seal(this.#key, { id, content }) };
  }

  open(text: string): TokenGrant | TokenFault {
    const sealed = unseal(this.#key, text);
    const content = sealed && contentOf(sealed.content);
    if (!sealed || !content) return tokenFault.forged;
    const { proof, ...rest } = content;
    const secret = this.#deps.directory().accounts.get(content.accessKey);
    if (secret === undefined) return tokenFault.permission;
    if (!this.#isProof(content, secret)) return tokenFault.signature;
    return { ...rest, id: nameOf(sealed.id) };
  }

  faultOf(grant: TokenGrant): TokenFault | undefined {
    this.#isUsed = true;
    if (this.#time.isExpired(grant)) return tokenFault.expired;
    if (this.#revoked.has(grant.id)) return tokenFault.revoked;
    return this.#deps.directory().accounts.has(grant.accessKey) ? undefined : tokenFault.permission;
  }

  /**
   * Resolves when it will never be taken again; at once for one that expired or is revoked already.
   * Throws `too_many` or `store_not_writable`; the token is then as it was.
   */
  async revoke(grant: TokenGrant): Promise<void> {
    const { id, expiresAt, epoch } = grant;
    if (this.#time.isExpired(grant) || this.#revoked.has(id)) return;
    if (this.#revoked.size >= this.#options.revoked) {
      throw new HoldfastError("too_many", "Too many revoked tokens have not expired yet.");
    }
    const revocation = { expiresAt, epoch };
    await this.#save([this.#revokedTable.put(id, revocation)]);
    this.#revoked.set(id, revocation);
  }

  async #readState(): Promise<TokenState | undefined> {
    if (this.#deps.wasRepaired?.()) {
      this.#deps.log.error("tokens void", { reason: "the database was damaged" });
      return undefined;
    }
    try {
      return await this.#stateTable.get(STATE);
    } catch (error) {
      if (!isHoldfastError(error, "store_damaged")) throw error;
      this.#deps.log.error("tokens void", { error: describeError(error) });
      return undefined;
    }
  }

  async #readRevoked(): Promise<void> {
    const lost = {
      expiresAt: this.#time.nowMs() + this.#options.maxLifeMs,
      epoch: this.#time.epoch,
    };
    let gt = "";
    for (let more = true; more; ) {
      more = false;
      const read = (key: string, revocation: Revocation): void => {
        this.#revoked.set(key, revocation);
        gt = key;
        more = true;
      };
      const damaged = (key: string): void => read(key, lost);
      for await (const [key, value] of this.#revokedTable.range({ gt, limit: PAGE, damaged })) {
        read(key, value);
      }
    }
  }

  async #tickForever(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#forget();
      } catch (error) {
        this.#troubles.report("error", "tokens not written", "", { error: describeError(error) });
      }
      await this.#deps.clock.sleep(TICK_MS, signal);
    }
  }

  /** Lets go of what has expired. The time by which it had is in the same commit. */
  async #forget(): Promise<void> {
    this.#time.nowMs();
    const expired = [...this.#revoked].filter(([, one]) => this.#time.isExpired(one));
    const isDue = this.#deps.clock.monotonicMs() - this.#savedAtMs >= SAVE_MS;
    const isBack = this.#time.epoch !== this.#savedEpoch;
    if (expired.length === 0 && !isBack && !(this.#isUsed && isDue)) return;
    await this.#save(expired.map(([id]) => this.#revokedTable.del(id)));
    for (const [id] of expired) this.#revoked.delete(id);
  }

  /** Synced, with the time reached. */
  async #save(writes: readonly Write[]): Promise<void> {
    this.#isUsed = false;
    const time = this.#time.record;
    const state = this.#stateTable.put(STATE, { salt: this.#salt, time });
    try {
      await this.#deps.store.commit([...writes, state], { sync: true });
      this.#savedEpoch = time.epoch;
      this.#savedAtMs = this.#deps.clock.monotonicMs();
    } catch (error) {
      this.#isUsed = true;
      throw error;
    }
  }

  #makeSalt(): string {
    return Buffer.from(this.#deps.random.bytes(SALT_BYTES)).toString("base64");
  }

  #proofOf(accessKey: string, secret: string): Buffer {
    const hash = createHmac("sha256", this.#key).update(`account\0${accessKey}\0${secret}`);
    return hash.digest().subarray(0, PROOF_BYTES);
  }

  #isProof({ accessKey, proof }: TokenContent, secret: string): boolean {
    const given = Buffer.from(proof, "base64");
    return given.length === PROOF_BYTES && timingSafeEqual(given, this.#proofOf(accessKey, secret));
  }
}

function nameOf(id: Uint8Array): string {
  return Buffer.from(id).toString("base64url");
}

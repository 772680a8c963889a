import type { Config } from "../config/config.ts";
import { describeError, HoldfastError } from "../core/errors.ts";
import { isJsonObject } from "../core/json.ts";
import type { Logger } from "../core/log.ts";
import { jsonCodec, type Store, type Table } from "../store/store.ts";

const KEY = "session";

/** What the service knows of this device since the last good connection. */
interface Known {
  readonly clientId: string;
  readonly instanceId: string;
  readonly clean: boolean;
}

/**
 * Whether the service knows this client id with the same clean_session. One that changes between
 * two connects breaks the service's account of what waits for the device (lmq-protocol 1.4), and
 * commands that wait may never come; so a change has to be meant.
 */
export class KnownSession {
  readonly #store: Store;
  readonly #table: Table<Known>;
  readonly #log: Logger;
  readonly #now: Known;
  #isNoted = false;

  constructor({ device, service }: Config, deps: { readonly store: Store; readonly log: Logger }) {
    this.#store = deps.store;
    this.#log = deps.log;
    this.#table = deps.store.table("access", codec);
    const { instance_id: instanceId, clean_session: clean } = service;
    this.#now = { clientId: device.client_id, instanceId, clean };
  }

  /** Throws `config_invalid` for a change that nobody accepted. The store must be running. */
  async check(isAccepted: boolean): Promise<void> {
    const known = await this.#read();
    const { clientId, instanceId, clean } = this.#now;
    if (known?.clientId !== clientId || known.instanceId !== instanceId) return;
    this.#isNoted = known.clean === clean;
    if (this.#isNoted) return;
    if (isAccepted) {
      this.#log.warn("clean_session changed", { from: known.clean, to: clean });
      return;
    }
    throw new HoldfastError(
      "config_invalid",
      `service.clean_session is ${clean}, and the service knows ${clientId} with ${known.clean}. ` +
        "Messages that wait there for this device could be lost. Put it back, or start once with " +
        "--accept-session-change.",
    );
  }

  /** A connection stands: from now on the service knows. */
  async note(): Promise<void> {
    if (this.#isNoted) return;
    try {
      await this.#store.commit([this.#table.put(KEY, this.#now)], { sync: true });
      this.#isNoted = true;
    } catch (error) {
      this.#log.debug("session not noted", { error: describeError(error) }); // At the next one.
    }
  }

  /** What cannot be read keeps nobody from starting. */
  async #read(): Promise<Known | undefined> {
    try {
      return await this.#table.get(KEY);
    } catch (error) {
      this.#log.warn("last session not known", { error: describeError(error) });
      return undefined;
    }
  }
}

const codec = jsonCodec<Known>((value) => {
  if (isJsonObject(value)) {
    const { clientId, instanceId, clean } = value;
    if (
      typeof clientId === "string" &&
      typeof instanceId === "string" &&
      typeof clean === "boolean"
    ) {
      return { clientId, instanceId, clean };
    }
  }
  throw new HoldfastError("store_damaged", "The record of the last session is not well-formed.");
});

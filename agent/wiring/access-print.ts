import { createHmac } from "node:crypto";
import type { Config } from "../config/config.ts";
import { jsonCodec, type Store, type Table } from "../store/store.ts";

const KEY = "access";

/**
 * Remembers what the agent says to the service of itself (address, credentials, parent topics), so
 * that a start with other ones is noticed: what was refused before may go through now. Kept is a
 * digest with the store's own random id as key, from which no secret can be looked up.
 */
export class AccessPrint {
  readonly #store: Store;
  readonly #table: Table<string>;
  readonly #print: (storeId: string) => string;

  constructor(store: Store, { service, auth, topics }: Config) {
    this.#store = store;
    this.#table = store.table("access", jsonCodec(String));
    const text = JSON.stringify([service, auth, topics, revealed(auth)]);
    this.#print = (storeId) => createHmac("sha256", storeId).update(text).digest("base64url");
  }

  /** Whether it is another one than at the last start; false at the first. */
  async changed(storeId: string): Promise<boolean> {
    const print = this.#print(storeId);
    const before = await this.#table.get(KEY);
    if (before === print) return false;
    await this.#store.commit([this.#table.put(KEY, print)], { sync: true });
    return before !== undefined;
  }
}

/** Secrets show nothing of themselves as JSON. */
function revealed({ secret, password }: Config["auth"]): (string | undefined)[] {
  return [secret?.reveal(), password?.reveal()];
}

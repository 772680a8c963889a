/** What of tokens is on disk: which are revoked, and the state that all of them hang on. */
import { HoldfastError } from "../../agent/core/errors.ts";
import { isJsonObject } from "../../agent/core/json.ts";
import { jsonCodec } from "../../agent/store/store.ts";
import type { Floor, TimeRecord } from "./token-time.ts";

export interface Revocation {
  readonly expiresAt: number;
  readonly epoch: number;
}

export interface TokenState {
  /** Part of the key of every token: tokens do not outlive the list of the revoked ones. */
  readonly salt: string;
  readonly time: TimeRecord;
}

export const revocationCodec = jsonCodec<Revocation>((value) => {
  if (!isJsonObject(value)) throw damaged("a revocation");
  const { expiresAt, epoch } = value;
  if (typeof expiresAt !== "number" || typeof epoch !== "number") throw damaged("a revocation");
  return { expiresAt, epoch };
});

export const stateCodec = jsonCodec<TokenState>((value) => {
  if (!isJsonObject(value)) throw damaged("the state of tokens");
  const { salt, time } = value;
  if (typeof salt !== "string" || !isJsonObject(time)) throw damaged("the state of tokens");
  const { epoch, floors, highMs } = time;
  if (typeof epoch !== "number" || typeof highMs !== "number" || !Array.isArray(floors)) {
    throw damaged("the state of tokens");
  }
  return { salt, time: { epoch, highMs, floors: floors.map(readFloor) } };
});

function readFloor(value: unknown): Floor {
  if (!isJsonObject(value)) throw damaged("the state of tokens");
  const { epoch, ms } = value;
  if (typeof epoch !== "number" || typeof ms !== "number") throw damaged("the state of tokens");
  return { epoch, ms };
}

function damaged(what: string): HoldfastError {
  return new HoldfastError("store_damaged", `A record that should hold ${what} holds no such.`);
}

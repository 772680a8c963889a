import type { JsonObject, JsonValue } from "../core/json.ts";

/** A command that was admitted; what the host is given. */
export interface Command {
  readonly id: string;
  /** Who sent it: key and id name a command; unsigned ones are keyed by the sender. */
  readonly kid?: string;
  readonly from: string;
  /** `<plugin>.<verb>` */
  readonly name: string;
  readonly params: JsonObject;
  readonly issuedAt: number;
  readonly expiresAt: number;
}

export type CommandResult =
  | { readonly status: "succeeded"; readonly result: JsonValue }
  | {
      readonly status: "failed" | "rejected" | "expired" | "cancelled" | "interrupted";
      readonly error: {
        readonly code: string;
        readonly message: string;
        readonly details?: JsonObject;
      };
    };

/** What `commands` needs of a host: it runs a command to its one result and never throws. */
export interface Dispatcher {
  dispatch(command: Command, signal: AbortSignal): Promise<CommandResult>;
}

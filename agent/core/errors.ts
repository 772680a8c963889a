/**
 * Every error that Holdfast throws on purpose. Callers switch on `code`, never on the message; the
 * message is one sentence for the person who reads it at 3 a.m.
 *
 * The table is closed: a new kind of failure is a new row here, so that the list of what can go
 * wrong is always one page long. `retryable` is the default answer to "may the same call work
 * later without anyone changing anything?"; a throw site may override it.
 */

export const errorTable = {
  // configuration and use
  usage: { retryable: false, meaning: "the command line is wrong" },
  config_invalid: { retryable: false, meaning: "the configuration is wrong" },
  secret_exposed: { retryable: false, meaning: "a file with a secret can be read by others" },
  session_change_refused: {
    retryable: false,
    meaning: "clean_session differs from what this client id used before",
  },

  // store
  store_locked: { retryable: false, meaning: "another process holds the state folder" },
  store_not_writable: { retryable: true, meaning: "the disk does not take writes now" },
  store_unreadable: { retryable: true, meaning: "the disk does not give back what was written" },
  store_damaged: { retryable: false, meaning: "a record fails its checksum" },
  store_missing: { retryable: false, meaning: "a database that must exist is not there" },
  store_newer_format: { retryable: false, meaning: "a newer release wrote this state folder" },

  // outgoing messages
  topic_invalid: { retryable: false, meaning: "the topic cannot be published to" },
  topic_too_long: { retryable: false, meaning: "the topic is longer than the service takes" },
  lane_unknown: { retryable: false, meaning: "no lane has this name" },
  lane_full: { retryable: true, meaning: "the lane is at its bound and refuses" },
  message_invalid: { retryable: false, meaning: "the message is not well-formed" },
  payload_too_large: { retryable: false, meaning: "the payload is over the service's limit" },

  // identity and wire
  client_id_invalid: { retryable: false, meaning: "the client id is not well-formed" },
  not_connected: { retryable: true, meaning: "there is no connection now" },
  connect_failed: { retryable: true, meaning: "the service could not be reached" },
  connect_timeout: { retryable: true, meaning: "the service did not answer the connect in time" },
  tls_failed: { retryable: true, meaning: "the TLS handshake failed" },
  credentials_refused: { retryable: true, meaning: "the service refused the credentials" },
  connection_refused: { retryable: true, meaning: "the service refused the connection" },
  connection_lost: { retryable: true, meaning: "the connection ended" },
  takeover: { retryable: true, meaning: "another client connected with the same client id" },
  ack_timeout: { retryable: true, meaning: "the service did not acknowledge in time" },
  protocol_error: { retryable: false, meaning: "the peer broke the protocol" },

  // commands
  json_invalid: { retryable: false, meaning: "the bytes are not JSON within the bounds" },
  envelope_invalid: { retryable: false, meaning: "the command is not well-formed" },
  wrong_recipient: { retryable: false, meaning: "the command is for another device" },
  signature_required: { retryable: false, meaning: "the command must be signed" },
  forbidden: { retryable: false, meaning: "the sender may not do this" },
  id_conflict: { retryable: false, meaning: "the id was used for another command" },
  command_expired: { retryable: false, meaning: "the command came too late" },
  command_unknown: { retryable: false, meaning: "no plugin has this command" },
  params_invalid: { retryable: false, meaning: "the parameters do not fit the command" },
  nonce_required: { retryable: true, meaning: "the command needs the device's boot nonce" },
  busy: { retryable: true, meaning: "too much waits already; repeat the same command later" },
  no_room: { retryable: true, meaning: "there is no room for the answer" },
  storage_unavailable: { retryable: true, meaning: "the command cannot be recorded now" },
  handler_failed: { retryable: false, meaning: "the plugin reported a failure" },
  deadline_exceeded: { retryable: false, meaning: "the command took longer than it may" },
  interrupted: { retryable: false, meaning: "the agent stopped while the command ran" },
  cancelled: { retryable: false, meaning: "it was cancelled" },

  // plugins
  plugin_invalid: { retryable: false, meaning: "the plugin cannot be loaded as it is" },
  plugin_failed: { retryable: true, meaning: "the plugin ended or did not start" },

  // local and remote programs
  listen_failed: { retryable: true, meaning: "the address cannot be listened on" },
  unreachable: { retryable: true, meaning: "the other program is not there" },
  timed_out: { retryable: true, meaning: "no answer came in time" },
  not_found: { retryable: false, meaning: "there is no such thing" },
  rejected_by_service: { retryable: false, meaning: "the service refused the request" },
  request_invalid: { retryable: false, meaning: "the local API does not take this request" },
  too_many: { retryable: true, meaning: "a bound on concurrent work is reached" },
  stopped: { retryable: true, meaning: "the part that was asked is stopped" },
} as const satisfies Record<string, { retryable: boolean; meaning: string }>;

export type ErrorCode = keyof typeof errorTable;
export type ErrorDetails = Readonly<Record<string, string | number | boolean>>;

export interface ErrorOptions {
  readonly details?: ErrorDetails;
  readonly cause?: unknown;
  readonly retryable?: boolean;
}

export class HoldfastError extends Error {
  override readonly name = "HoldfastError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message?: string, options: ErrorOptions = {}) {
    super(message ?? `${errorTable[code].meaning}.`, { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
    this.retryable = options.retryable ?? errorTable[code].retryable;
  }
}

/** True for an error of ours, of that code where one is given. */
export function isHoldfastError(error: unknown, code?: ErrorCode): error is HoldfastError {
  return error instanceof HoldfastError && (code === undefined || error.code === code);
}

/** What went wrong in one line, with the causes behind it; for logs, not for decisions. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  for (let depth = 0; depth < 5 && current !== undefined && current !== null; depth++) {
    parts.push(current instanceof Error ? describeOne(current) : String(current));
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(" <- ");
}

function describeOne(error: Error): string {
  const code: unknown = "code" in error ? error.code : undefined;
  return typeof code === "string" ? `${code}: ${error.message}` : error.message;
}

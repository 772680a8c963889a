/**
 * Who may connect, publish, subscribe and ask: pure decisions over what the service knows, without
 * a word of any broker in them, so that a broker of another make can ask the same functions.
 *
 * Invariants
 * - A decision depends on its arguments alone: the directory, the principal and the request.
 * - Secrets and signatures are compared in constant time; an unknown account costs as much as a
 *   wrong secret and is answered alike.
 * - What is not allowed here is denied with a code; nobody decides by the text.
 *
 * Token mode adds a second kind of principal, whose resources `decidePublish` and
 * `decideSubscribe` will look at; signature mode proves the secret of the account, and with it
 * comes every topic of the instance.
 */
import { isHoldfastError } from "../../agent/core/errors.ts";
import { type ClientId, parseClientId } from "../../agent/protocol/client-id.ts";
import {
  parseConnectUsername,
  verifyConnectPassword,
} from "../../agent/protocol/connect-signature.ts";
import {
  checkPublishTopic,
  checkTopicFilter,
  isControlTopic,
  parentOf,
} from "../../agent/protocol/topics.ts";
import type { AccessLimits, Directory } from "./directory.ts";

export type { AccessLimits, Directory } from "./directory.ts";
export { decideStatus } from "./status.ts";

/** Why something is denied. The broker turns each into what the sheet says happens then. */
export type DenyCode =
  | "malformed" // breaks the form that MQTT or the sheet demands
  | "too_long" // a client id or a topic over its limit
  | "not_authorized" // the credentials are not those of an account of this instance
  | "unknown_group" // the group was not created on the instance
  | "no_permission"; // the parent topic was not created, or is not one for clients

export interface Denial {
  readonly allow: false;
  readonly code: DenyCode;
  /** One sentence for the log of the service. */
  readonly message: string;
}

/** Who is behind a connection, once proven. */
export interface Principal {
  readonly mode: "signature";
  readonly accessKey: string;
  readonly clientId: ClientId;
}

export type Decision<T = object> = ({ readonly allow: true } & T) | Denial;

export interface ConnectRequest {
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** lmq-protocol 5 of the control channels: those a client may send to. */
const CLIENT_CONTROLS = new Set(["$SYS/uploadToken", "$SYS/enableOrderMsg", "$SYS/getOfflineMsg"]);
/** And those it is sent; subscribing to them is allowed and changes nothing (lmq-protocol 4.6). */
const SERVICE_CONTROLS = new Set(["$SYS/tokenExpireNotice", "$SYS/tokenInvalidNotice"]);

/** Stands in for the secret of an account that does not exist: the work done is the same. */
const NO_SECRET = "no account has this secret";

/** lmq-protocol 1.1 and 3. */
export function decideConnect(
  directory: Directory,
  limits: AccessLimits,
  request: ConnectRequest,
): Decision<{ readonly principal: Principal }> {
  if (request.clientId.length > limits.clientIdMax) {
    return deny("too_long", "The client id is longer than allowed.");
  }
  const clientId = readClientId(request.clientId);
  if (!clientId) return deny("malformed", "The client id is not of the form GROUP@@@DEVICE.");
  const user = parseConnectUsername(request.username ?? "");
  const secret = user && directory.accounts.get(user.accessKey);
  const proven = verifyConnectPassword({
    secret: secret ?? NO_SECRET,
    clientId: request.clientId,
    password: request.password ?? "",
  });
  if (user?.mode !== "Signature" || user.instanceId !== directory.instanceId) {
    return deny("not_authorized", "The user name names no mode or instance of this service.");
  }
  if (secret === undefined || !proven) {
    return deny("not_authorized", "The account is unknown or the password is wrong.");
  }
  if (!directory.groups.has(clientId.group ?? "")) {
    return deny("unknown_group", "The group of the client id was not created on the instance.");
  }
  return { allow: true, principal: { mode: "signature", accessKey: user.accessKey, clientId } };
}

/** lmq-protocol 1.2. `control`: the topic is a control channel of the service. */
export function decidePublish(
  directory: Directory,
  limits: AccessLimits,
  request: { readonly principal: Principal; readonly topic: string },
): Decision<{ readonly control: boolean }> {
  if (isControlTopic(request.topic)) {
    return CLIENT_CONTROLS.has(request.topic)
      ? { allow: true, control: true }
      : deny("no_permission", "Clients cannot send to this control channel.");
  }
  return decideTopic(directory, request.topic, () =>
    checkPublishTopic(request.topic, limits.topicMax),
  );
}

/** lmq-protocol 1.2. `control`: granted, and without effect. */
export function decideSubscribe(
  directory: Directory,
  limits: AccessLimits,
  request: { readonly principal: Principal; readonly filter: string },
): Decision<{ readonly control: boolean }> {
  if (isControlTopic(request.filter)) {
    return CLIENT_CONTROLS.has(request.filter) || SERVICE_CONTROLS.has(request.filter)
      ? { allow: true, control: true }
      : deny("no_permission", "There is no such control channel.");
  }
  return decideTopic(directory, request.filter, () =>
    checkTopicFilter(request.filter, limits.topicMax),
  );
}

/** Whether messages to this client id may wait for it: its group exists (surface: P2P). */
export function mayReceive(directory: Directory, clientId: string): boolean {
  const group = readClientId(clientId)?.group;
  return group !== undefined && directory.groups.has(group);
}

function decideTopic(
  directory: Directory,
  topic: string,
  check: () => void,
): Decision<{ readonly control: boolean }> {
  try {
    check();
  } catch (error) {
    if (isHoldfastError(error, "topic_too_long")) return deny("too_long", error.message);
    if (isHoldfastError(error, "topic_invalid")) return deny("malformed", error.message);
    throw error;
  }
  if (!directory.topics.has(parentOf(topic))) {
    return deny("no_permission", "The parent topic was not created on the instance.");
  }
  return { allow: true, control: false };
}

function readClientId(text: string): ClientId | undefined {
  try {
    return parseClientId(text, "lmq");
  } catch (error) {
    if (isHoldfastError(error, "client_id_invalid")) return undefined;
    throw error;
  }
}

function deny(code: DenyCode, message: string): Denial {
  return { allow: false, code, message };
}

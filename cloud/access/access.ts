/**
 * Who may connect, publish, subscribe and ask: pure decisions over what the service knows, without
 * a word of any broker in them, so that a broker of another make can ask the same functions.
 *
 * Invariants
 * - A decision depends on its arguments alone: the directory, the principal and the request.
 * - Secrets and signatures are compared in constant time; an unknown account costs as much as a
 *   wrong secret and is answered alike.
 * - What is not allowed here is denied with a code; nobody decides by the text.
 * - Signature mode proves the secret of the account, and with it comes every topic of the instance.
 *   Token mode (token.ts) proves tokens, and each publish and subscribe is held against them.
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
import { type Decision, type Denial, deny, type Principal } from "./decision.ts";
import type { AccessLimits, Directory } from "./directory.ts";
import { decideTokenConnect, decideTokenPublish, decideTokenSubscribe } from "./token.ts";
import type { TokenKeeper } from "./token-port.ts";

export type { Denial, Principal, TokenPrincipal } from "./decision.ts";
export type { AccessLimits, Directory } from "./directory.ts";
export { decideMq, type MqAction, type MqGrant } from "./mq.ts";
export { decideStatus } from "./status.ts";
export { decideTokenReceive, decideTokensKept, decideUpload } from "./token.ts";
export {
  type TokenFault,
  type TokenGrant,
  type TokenKeeper,
  type TokenNotice,
  type TokenType,
  tokenFault,
  tokenTypes,
} from "./token-port.ts";
export {
  decideAboutToken,
  decideTokenApply,
  type TokenApplication,
  type TokenLimits,
} from "./token-request.ts";

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

/** lmq-protocol 1.1, 3 and 4.2. */
export function decideConnect(
  directory: Directory,
  limits: AccessLimits,
  request: ConnectRequest,
  keeper: TokenKeeper,
): Decision<{ readonly principal: Principal }> {
  if (request.clientId.length > limits.clientIdMax) {
    return deny("too_long", "The client id is longer than allowed.");
  }
  const clientId = readClientId(request.clientId);
  if (!clientId) return deny("malformed", "The client id is not of the form GROUP@@@DEVICE.");
  const user = parseConnectUsername(request.username ?? "");
  if (user?.instanceId !== directory.instanceId || user.mode === "DeviceCredential") {
    return deny("not_authorized", "The user name names no mode or instance of this service.");
  }
  const { mode, accessKey } = user;
  const password = request.password ?? "";
  const decision =
    mode === "Token"
      ? decideTokenConnect(directory, keeper, { accessKey, clientId, password })
      : decideSignatureConnect(directory, { accessKey, clientId, password });
  if (decision.allow && !directory.groups.has(clientId.group ?? "")) {
    return deny("unknown_group", "The group of the client id was not created on the instance.");
  }
  return decision;
}

/** lmq-protocol 1.2. `control`: the topic is a control channel of the service. */
export function decidePublish(
  directory: Directory,
  limits: AccessLimits,
  request: { readonly principal: Principal; readonly topic: string },
  keeper: TokenKeeper,
): Decision<{ readonly control: boolean }> {
  const { principal, topic } = request;
  if (isControlTopic(topic)) {
    return CLIENT_CONTROLS.has(topic)
      ? { allow: true, control: true }
      : deny("no_permission", "Clients cannot send to this control channel.");
  }
  const wrong = checkForm(() => checkPublishTopic(topic, limits.topicMax));
  if (wrong) return wrong;
  const parent = parentOf(topic);
  const decision =
    principal.mode === "token"
      ? decideTokenPublish(directory, keeper, { principal, topic, parent })
      : decideParent(directory, parent);
  return decision.allow ? { allow: true, control: false } : decision;
}

/** lmq-protocol 1.2. `control`: granted, and without effect. */
export function decideSubscribe(
  directory: Directory,
  limits: AccessLimits,
  request: { readonly principal: Principal; readonly filter: string },
  keeper: TokenKeeper,
): Decision<{ readonly control: boolean }> {
  const { principal, filter } = request;
  if (isControlTopic(filter)) {
    return CLIENT_CONTROLS.has(filter) || SERVICE_CONTROLS.has(filter)
      ? { allow: true, control: true }
      : deny("no_permission", "There is no such control channel.");
  }
  const wrong = checkForm(() => checkTopicFilter(filter, limits.topicMax));
  if (wrong) return wrong;
  const parent = parentOf(filter);
  const decision =
    principal.mode === "token"
      ? decideTokenSubscribe(directory, keeper, { principal, filter, parent })
      : decideParent(directory, parent);
  return decision.allow ? { allow: true, control: false } : decision;
}

/** Whether messages to this client id may wait for it: its group exists (surface: P2P). */
export function mayReceive(directory: Directory, clientId: string): boolean {
  const group = readClientId(clientId)?.group;
  return group !== undefined && directory.groups.has(group);
}

/** lmq-protocol 3. An unknown account costs as much as a wrong password. */
function decideSignatureConnect(
  directory: Directory,
  request: {
    readonly accessKey: string;
    readonly clientId: ClientId;
    readonly password: string;
  },
): Decision<{ readonly principal: Principal }> {
  const { accessKey, clientId, password } = request;
  const secret = directory.accounts.get(accessKey);
  const proven = verifyConnectPassword({
    secret: secret ?? NO_SECRET,
    clientId: clientId.text,
    password,
  });
  return secret !== undefined && proven
    ? { allow: true, principal: { mode: "signature", accessKey, clientId } }
    : deny("not_authorized", "The account is unknown or the password is wrong.");
}

function decideParent(directory: Directory, parent: string): Decision {
  return directory.topics.has(parent)
    ? { allow: true }
    : deny("no_permission", "The parent topic was not created on the instance.");
}

/** What is wrong with the form of a topic or filter. */
function checkForm(check: () => void): Denial | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (isHoldfastError(error, "topic_too_long")) return deny("too_long", error.message);
    if (isHoldfastError(error, "topic_invalid")) return deny("malformed", error.message);
    throw error;
  }
}

function readClientId(text: string): ClientId | undefined {
  try {
    return parseClientId(text, "lmq");
  } catch (error) {
    if (isHoldfastError(error, "client_id_invalid")) return undefined;
    throw error;
  }
}

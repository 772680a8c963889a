import {
  type AccessLimits,
  type Denial,
  type Directory,
  decideConnect,
  type Principal,
  type TokenKeeper,
  type TokenNotice,
} from "../access/access.ts";
import type { CloseReason } from "./channel.ts";
import type { Frame } from "./framer.ts";
import { type ConnectPacket, connectLevel, readPacket } from "./packets.ts";

/** CONNACK return codes, MQTT 3.1.1 table 3.1. */
export const connack = {
  accepted: 0,
  level: 1,
  identifier: 2,
  unavailable: 3,
  unauthorized: 5,
} as const;

export type Handshake =
  | { readonly allow: true; readonly packet: ConnectPacket; readonly principal: Principal }
  | {
      readonly allow: false;
      /** Undefined: the connection is closed without a word. */
      readonly returnCode: number | undefined;
      readonly reason: CloseReason;
      readonly detail: string;
      /** Sent behind the CONNACK, so that a device learns which of its tokens is bad, and why. */
      readonly notice?: TokenNotice | undefined;
    };

/** What becomes of a stranger's first packet. Throws `protocol_error` for a malformed one. */
export function readHandshake(
  frame: Frame,
  directory: Directory,
  limits: AccessLimits,
  keeper: TokenKeeper,
): Handshake {
  const level = connectLevel(frame);
  if (level === undefined) {
    // [MQTT-3.1.0-1], [MQTT-3.1.2-1]
    return refuse(undefined, "invalid param", "The first packet is no CONNECT of this protocol.");
  }
  if (level !== 3 && level !== 4) {
    return refuse(connack.level, "invalid param", "The protocol level is not MQTT 3.1.1.");
  }
  const packet = readPacket(frame) as ConnectPacket;
  const decision = decideConnect(directory, limits, packet, keeper);
  return decision.allow
    ? { allow: true, packet, principal: decision.principal }
    : refuseDenied(decision);
}

/** lmq-protocol 1.1: an id over the length is dropped without a word; 3: the others get a code. */
function refuseDenied({ code, message, notice }: Denial): Handshake {
  switch (code) {
    case "too_long":
      return refuse(undefined, "invalid param", message);
    case "malformed":
      return refuse(connack.identifier, "invalid param", message);
    default:
      return { ...refuse(connack.unauthorized, "not authorized", message), notice };
  }
}

type Refusal = Extract<Handshake, { readonly allow: false }>;

function refuse(returnCode: number | undefined, reason: CloseReason, detail: string): Refusal {
  return { allow: false, returnCode, reason, detail };
}

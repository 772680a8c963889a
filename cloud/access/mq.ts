/** The decision behind the requests of the MQ side: surface section 6, signed by lmq-protocol 4.4. */
import { verifyHttpSignature } from "../../agent/protocol/http-signature.ts";
import type { AccessLimits, Directory } from "./directory.ts";

export type MqAction = "produce" | "consume" | "confirm";

export interface MqRequest {
  readonly action: MqAction;
  /** All values of each parameter, as they came, URL-decoded. */
  readonly parameters: ReadonlyMap<string, readonly string[]>;
  readonly nowMs: number;
}

export interface MqGrant {
  readonly allow: true;
  readonly topic: string;
  /** The other parameters of the request, as given. */
  readonly given: Readonly<Record<string, string>>;
}

export type MqDecision =
  | MqGrant
  | {
      readonly allow: false;
      readonly http: 400 | 403 | 404;
      readonly code: string;
      readonly message: string;
    };

/** What an action needs and what it may have; all of it is signed where it is given. */
const PARAMETERS: Readonly<
  Record<MqAction, { readonly needs: readonly string[]; readonly may: readonly string[] }>
> = {
  produce: { needs: ["topic"], may: ["tag"] },
  consume: { needs: ["topic", "group"], may: ["tags", "max", "wait_ms"] },
  confirm: { needs: ["topic", "group", "ids"], may: [] },
};
const ALWAYS = ["accessKey", "timestamp", "instanceId"];
const NO_SECRET = "no account has this secret";

/** Form first, then the signature, then the time, then what exists: the unproven learn nothing. */
export function decideMq(
  directory: Directory,
  limits: AccessLimits,
  { action, parameters, nowMs }: MqRequest,
): MqDecision {
  const { needs, may } = PARAMETERS[action];
  const required = [...ALWAYS, ...needs, "signature"];
  const given: Record<string, string> = {};
  for (const name of [...required, ...may]) {
    const [value, ...more] = parameters.get(name) ?? [];
    if (more.length > 0) return malformed(`The parameter ${name} is given more than once.`);
    if (value !== undefined) given[name] = value;
    if (!value && required.includes(name)) return malformed(`The parameter ${name} is missing.`);
  }
  const { signature = "", ...signed } = given;
  const { accessKey = "", timestamp = "", instanceId, topic = "", group } = signed;
  if (!/^\d{1,15}$/.test(timestamp)) {
    return malformed("The timestamp is not a number of milliseconds.");
  }
  if (group !== undefined && !/^[0-9A-Za-z_-]{1,64}$/.test(group)) {
    return malformed("A consumer group is 1 to 64 letters, digits, - and _.");
  }
  const secret = directory.accounts.get(accessKey);
  const proven = verifyHttpSignature({
    secret: secret ?? NO_SECRET,
    parameters: signed,
    signature,
  });
  if (secret === undefined || !proven) return forbidden("The signature is wrong.");
  if (Math.abs(Number(timestamp) - nowMs) > limits.timestampWindowMs) {
    return forbidden("The timestamp is too far from the time of the service.");
  }
  if (instanceId !== directory.instanceId) {
    return forbidden("The account does not own an instance of this name.");
  }
  if (!directory.topics.has(topic)) {
    const message = "The topic was not created on the instance.";
    return { allow: false, http: 404, code: "not_found", message };
  }
  return { allow: true, topic, given };
}

function malformed(message: string): MqDecision {
  return { allow: false, http: 400, code: "request_invalid", message };
}

function forbidden(message: string): MqDecision {
  return { allow: false, http: 403, code: "forbidden", message };
}

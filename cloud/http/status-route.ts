/** `GET /route/clientId/get`: lmq-protocol 7.1. */
import type { Clock } from "../../agent/core/clock.ts";
import { type AccessLimits, type Directory, decideStatus } from "../access/access.ts";
import type { HttpAnswer, Route } from "./route.ts";

export interface StatusDeps {
  readonly directory: () => Directory;
  readonly limits: AccessLimits;
  readonly clock: Clock;
  /** TCP connections of a client id now. */
  readonly connectionsOf: (clientId: string) => number;
}

/** What `online` is where nothing is known: the sheet's word for "for the moment". */
const UNKNOWN = -1;

export function statusRoute(deps: StatusDeps): Route {
  return {
    method: "GET",
    path: "/route/clientId/get",
    wrongMethod: answer(400, 1, UNKNOWN, "Only GET is answered here."),
    handle: ({ parameters }) => {
      if (!parameters) return answer(400, 1, UNKNOWN, "The query cannot be decoded.");
      const decision = decideStatus(deps.directory(), deps.limits, {
        parameters,
        nowMs: deps.clock.wallMs(),
      });
      return decision.allow
        ? answer(200, 0, deps.connectionsOf(decision.clientId), "success")
        : answer(decision.http, decision.code, UNKNOWN, decision.message);
    },
  };
}

function answer(status: number, code: number, online: number, message: string): HttpAnswer {
  return { status, body: { code, success: code === 0, online, message } };
}

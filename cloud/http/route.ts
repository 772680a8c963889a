import type { IncomingHttpHeaders } from "node:http";
import type { JsonValue } from "../../agent/core/json.ts";
import type { Parameters } from "./form.ts";

export interface HttpRequest {
  /** All values of each query parameter, URL-decoded. Undefined when the query is malformed. */
  readonly parameters: Parameters | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** Aborts when the caller is gone or the service stops: for answers that take their time. */
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: JsonValue;
}

export interface Route {
  readonly method: "GET" | "POST";
  readonly path: string;
  /** What the caller is told when the method is another one. */
  readonly wrongMethod: HttpAnswer;
  handle(request: HttpRequest): HttpAnswer | Promise<HttpAnswer>;
}

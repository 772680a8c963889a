import { HoldfastError } from "../core/errors.ts";

export interface Target {
  /** Decoded, with its leading slash. */
  readonly path: string;
  readonly query: ReadonlyMap<string, string>;
}

/**
 * Path and query of a request line. Stricter than URLSearchParams: bytes that are not UTF-8 and
 * parameters that come twice are errors, because guessing would send a message elsewhere.
 * Throws `request_invalid`.
 */
export function parseTarget(url: string): Target {
  const mark = url.indexOf("?");
  const path = decode(mark < 0 ? url : url.slice(0, mark));
  const query = new Map<string, string>();
  const pairs = mark < 0 ? [] : url.slice(mark + 1).split("&");
  for (const pair of pairs) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const name = decode(equals < 0 ? pair : pair.slice(0, equals));
    if (query.has(name)) throw invalid(`The parameter ${JSON.stringify(name)} comes twice.`);
    query.set(name, equals < 0 ? "" : decode(pair.slice(equals + 1).replaceAll("+", " ")));
  }
  return { path, query };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new HoldfastError("request_invalid", "The address is not percent-encoded UTF-8.", {
      cause,
    });
  }
}

function invalid(message: string): HoldfastError {
  return new HoldfastError("request_invalid", message);
}

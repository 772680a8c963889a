/**
 * Parameters of a request: of its query, and of a body as forms send it. Multipart is read by
 * Node's own parser (that of `Response`); the body was bounded before.
 */
export type Parameters = ReadonlyMap<string, readonly string[]>;

/** `a=1&b=2`. Undefined for an escape that is none, or one that gives no UTF-8. */
export function parsePairs(text: string): Parameters | undefined {
  const parameters = new Map<string, string[]>();
  for (const pair of text.split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const [name, value] = equals < 0 ? [pair, ""] : [pair.slice(0, equals), pair.slice(equals + 1)];
    try {
      add(parameters, decode(name), decode(value));
    } catch {
      return undefined;
    }
  }
  return parameters;
}

/** Of a body without a content type, that of a plain form. Undefined when it is no form. */
export async function parseForm(
  body: Buffer,
  contentType = "application/x-www-form-urlencoded",
): Promise<Parameters | undefined> {
  const [mediaType = ""] = contentType.split(";", 1);
  switch (mediaType.trim().toLowerCase()) {
    case "application/x-www-form-urlencoded":
      return parsePairs(body.toString("utf8").trim());
    case "multipart/form-data":
      return parseMultipart(body, contentType);
    default:
      return undefined;
  }
}

/** Both together: a name that is in both has two values. */
export function joinParameters(a: Parameters, b: Parameters): Parameters {
  const all = new Map<string, string[]>();
  for (const [name, values] of [...a, ...b]) for (const value of values) add(all, name, value);
  return all;
}

async function parseMultipart(body: Buffer, contentType: string): Promise<Parameters | undefined> {
  const parameters = new Map<string, string[]>();
  try {
    const headers = { "content-type": contentType };
    const form = await new Response(new Uint8Array(body), { headers }).formData();
    for (const [name, value] of form) {
      if (typeof value !== "string") return undefined; // A file is no parameter.
      add(parameters, name, value);
    }
  } catch {
    return undefined;
  }
  return parameters;
}

function add(parameters: Map<string, string[]>, name: string, value: string): void {
  const values = parameters.get(name);
  if (values) values.push(value);
  else parameters.set(name, [value]);
}

function decode(text: string): string {
  return decodeURIComponent(text.replaceAll("+", " "));
}

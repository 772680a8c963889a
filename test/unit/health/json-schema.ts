/** As much of JSON Schema as agent/health/report.schema.json uses; an unknown word is an error. */
type Schema = { readonly [word: string]: unknown };

const understood = new Set([
  ...["$schema", "$defs", "$ref", "title", "description", "type", "const", "enum", "required"],
  ...["properties", "additionalProperties", "items", "maxLength"],
]);

/** Each violation as `path: what`; empty when the value fits. */
export function violations(schema: Schema, value: unknown, root = schema, path = "$"): string[] {
  for (const word of Object.keys(schema)) {
    if (!understood.has(word)) throw new Error(`this validator does not know ${word}`);
  }
  if (typeof schema["$ref"] === "string") {
    const name = schema["$ref"].replace("#/$defs/", "");
    return violations((root["$defs"] as Record<string, Schema>)[name] as Schema, value, root, path);
  }
  const out: string[] = [];
  const types = schema["type"] === undefined ? undefined : [schema["type"]].flat();
  if (types && !types.some((type) => isOfType(type, value))) out.push(`${path}: no ${types}`);
  if ("const" in schema && value !== schema["const"]) out.push(`${path}: not ${schema["const"]}`);
  if (Array.isArray(schema["enum"]) && !schema["enum"].includes(value)) out.push(`${path}: enum`);
  if (typeof value === "string" && value.length > ((schema["maxLength"] as number) ?? Infinity)) {
    out.push(`${path}: too long`);
  }
  if (Array.isArray(value) && schema["items"]) {
    value.forEach((item, i) => {
      out.push(...violations(schema["items"] as Schema, item, root, `${path}[${i}]`));
    });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    out.push(...members(schema, value as Record<string, unknown>, root, path));
  }
  return out;
}

function members(schema: Schema, value: Record<string, unknown>, root: Schema, path: string) {
  const out: string[] = [];
  const properties = (schema["properties"] ?? {}) as Record<string, Schema>;
  const others = schema["additionalProperties"];
  for (const name of (schema["required"] ?? []) as string[]) {
    if (!Object.hasOwn(value, name)) out.push(`${path}.${name}: missing`);
  }
  for (const [name, member] of Object.entries(value)) {
    const own = Object.hasOwn(properties, name) ? properties[name] : undefined;
    if (own) out.push(...violations(own, member, root, `${path}.${name}`));
    else if (others === false) out.push(`${path}.${name}: unknown`);
    else if (others) out.push(...violations(others as Schema, member, root, `${path}.${name}`));
  }
  return out;
}

function isOfType(type: unknown, value: unknown): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "integer":
      return Number.isSafeInteger(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    default:
      return typeof value === type;
  }
}

import type { JsonObject } from "../core/json.ts";
import type { Schema, SchemaIssue } from "../sdk/sdk.ts";
import { toJson } from "./to-json.ts";

/** Issues that are told; a commander mends them in turn. */
const mostIssues = 5;
const longestIssue = 160;

export type Checked =
  | { readonly ok: true; readonly value: unknown }
  /** `problem` is one line; `field` is the first place that is wrong, like `filter.pid`. */
  | { readonly ok: false; readonly problem: string; readonly field: string };

/** Runs a schema of any library. Rejects only if the schema itself throws. */
export async function checkSchema(schema: Schema, value: unknown): Promise<Checked> {
  const result = await schema["~standard"].validate(value);
  if (!result.issues) return { ok: true, value: result.value };
  const told = result.issues.slice(0, mostIssues).map(describeIssue);
  const more = result.issues.length - told.length;
  return {
    ok: false,
    problem: told.join("; ") + (more > 0 ? `; and ${more} more` : ""),
    field: pathOf(result.issues[0]),
  };
}

/** JSON Schema by the Standard JSON Schema interface, where the library offers it. */
export function jsonSchemaOf(schema: Schema | undefined): JsonObject | undefined {
  const standard: object | undefined = schema?.["~standard"];
  if (!standard || !("jsonSchema" in standard)) return undefined;
  try {
    const { input } = standard.jsonSchema as { input(options: { target: string }): unknown };
    const made = toJson(input({ target: "draft-2020-12" }));
    return made.ok && typeof made.value === "object" ? (made.value as JsonObject) : undefined;
  } catch {
    return undefined; // The library cannot express this schema; the summary has to do.
  }
}

function describeIssue(issue: SchemaIssue): string {
  const path = pathOf(issue);
  return `${path === "" ? "" : `${path}: `}${String(issue.message)}`.slice(0, longestIssue);
}

function pathOf(issue: SchemaIssue | undefined): string {
  let path = "";
  for (const part of issue?.path ?? []) {
    const key = typeof part === "object" ? part.key : part;
    if (typeof key === "number") path += `[${key}]`;
    else path += `${path === "" ? "" : "."}${String(key)}`;
  }
  return path.slice(0, longestIssue);
}

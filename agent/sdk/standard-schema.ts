/**
 * The part of the Standard Schema interface (version 1, standardschema.dev) that Holdfast uses, as
 * types only: any library whose schemas carry `~standard` fits (valibot, zod, arktype, ...), and a
 * hand-written object of this shape does too.
 */
export interface Schema<Input = unknown, Output = Input> {
  readonly "~standard": SchemaProperties<Input, Output>;
}

export interface SchemaProperties<Input, Output> {
  readonly version: 1;
  readonly vendor: string;
  readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
  /** Never there at run time; carries the types. */
  readonly types?: { readonly input: Input; readonly output: Output } | undefined;
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What a value must look like before the schema has seen it. */
export type InputOf<S extends Schema> = NonNullable<S["~standard"]["types"]>["input"];
/** What the schema makes of it. */
export type OutputOf<S extends Schema> = NonNullable<S["~standard"]["types"]>["output"];

/** One change, made by `put` or `del` of a table and carried out by `commit`. */
export type Write = PlainWrite | NumberedWrite;

export interface PlainWrite {
  readonly table: string;
  readonly key: string;
  /** Undefined deletes. */
  readonly value: Uint8Array | undefined;
}

/** A record whose key and value depend on its number, which is known only in its batch. */
export interface NumberedWrite {
  readonly table: string;
  readonly numbered: (recordNumber: number) => {
    readonly key: string;
    readonly value: Uint8Array;
  };
}

export interface Codec<V> {
  encode(value: V): Uint8Array;
  /** Throws for bytes that it did not make. */
  decode(bytes: Uint8Array): V;
}

/** Keys are ordered byte by byte; printable ASCII, at most 256 characters. */
export interface Table<V> {
  readonly name: string;
  get(key: string): Promise<V | undefined>;
  range(range: {
    readonly gt?: string;
    readonly lte?: string;
    readonly limit: number;
    readonly reverse?: boolean;
    /** Told of each key whose value is damaged; such a pair is skipped. */
    readonly damaged?: (key: string) => void;
  }): AsyncIterable<readonly [string, V]>;
  put(key: string, value: V): Write;
  del(key: string): Write;
  /**
   * A record with a dense number of its own; `make` is called when its batch is formed. Its key ends
   * with a slash and the number in twelve hexadecimal digits: so a record tells its number.
   */
  putNumbered(make: (recordNumber: number) => { readonly key: string; readonly value: V }): Write;
}

export interface CommitOptions {
  readonly sync: boolean;
  /**
   * The writes bring new content, of this priority (1 to 9, as of a lane): refused
   * (`store_not_writable`, `details.short`) before the disk is really full, so that there is always
   * room for those that end something; the less important the sooner.
   */
  readonly grows?: number;
}

export interface Store {
  table<V>(name: string, codec: Codec<V>): Table<V>;
  /** Throws `store_not_writable`; then nothing of these writes may be assumed on disk. */
  commit(writes: readonly Write[], options: CommitOptions): Promise<void>;
  /**
   * Commits that grow the database with content of this priority, or a less important one, are
   * refused now, so that there is room to end things; infinite or undefined: none is.
   */
  readonly shortFrom?: number;
  /** As far as it is known besides the records: at least so many were committed. */
  readonly lastNumber?: number;
  /** No record has a higher number than `lastNumber`. Otherwise one may be found by looking. */
  readonly lastNumberProven?: boolean;
  /** A record with this number was found, or is known to be gone: later ones get higher numbers. */
  noteNumber(recordNumber: number): void;
}

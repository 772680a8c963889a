/**
 * The log as the parts see it: an event name and fields, never a sentence with values in it.
 *
 * Levels by what the reader must do. error: act now. warn: may need you. info: rare events of the
 * agent's life. debug: everything else. Nothing per message at info; no payload and no secret at
 * any level above debug, no secret at all.
 */
export type LogFields = Readonly<
  Record<string, string | number | boolean | null | undefined | readonly string[]>
>;

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

export interface Logger {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A logger for one part; its lines carry the name. */
  child(component: string): Logger;
}

/** For tests and tools that have nobody to tell. */
export const silentLog: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLog,
};

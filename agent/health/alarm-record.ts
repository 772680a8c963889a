import { jsonCodec } from "../store/store.ts";

export const severities = ["info", "warning", "critical"] as const;
export type Severity = (typeof severities)[number];

/** One alarm as it is kept; only what was told and is cleared is forgotten. */
export interface AlarmRecord {
  readonly alarm: string;
  readonly state: "raised" | "cleared";
  readonly severity: Severity;
  readonly cause: string;
  /** Unix milliseconds of the change. */
  readonly at: number;
  /** Changes since the last message about it. */
  readonly edges: number;
  /** False while the message about this state is still owed. */
  readonly told: boolean;
}

export const alarmCodec = jsonCodec<AlarmRecord>((value) => {
  const record = value as AlarmRecord;
  const sound =
    typeof record === "object" &&
    record !== null &&
    typeof record.alarm === "string" &&
    (record.state === "raised" || record.state === "cleared") &&
    severities.includes(record.severity) &&
    typeof record.cause === "string" &&
    typeof record.at === "number" &&
    typeof record.edges === "number" &&
    typeof record.told === "boolean";
  if (!sound) throw new TypeError("not an alarm");
  return record;
});

/** The message on the alarm lane (surface 5); `edges` is there when it stands for several changes. */
export function alarmPayload(record: AlarmRecord): Uint8Array {
  const { alarm, state, severity, cause, at, edges } = record;
  const body = { alarm, state, severity, cause, at, ...(edges > 1 && { edges }) };
  return Buffer.from(JSON.stringify(body));
}

/** The object of `GET /v1/status`, surface 4. All times are Unix milliseconds, ages milliseconds. */

export interface StatusReport {
  readonly version: string;
  readonly startedAt: number;
  readonly device: { readonly clientId: string };
  readonly connection: {
    readonly state: "idle" | "connecting" | "online" | "backing-off" | "refused" | "stopped";
    readonly endpoint: string | null;
    /** When this state began. */
    readonly since: number;
    readonly attempts: number;
    readonly lastError: { readonly code: string; readonly message: string } | null;
  };
  readonly credentials: {
    readonly mode: string;
    readonly expiresAt: number | null;
    readonly renewedAt: number | null;
  };
  readonly clock: {
    readonly trusted: boolean;
    readonly source: string;
    readonly offsetMs: number | null;
  };
  readonly outbox: {
    readonly lanes: Readonly<Record<string, StatusLane>>;
    readonly inFlight: number;
    readonly quarantined: number;
    readonly persisted: number;
    readonly elided: number;
  };
  readonly store: {
    readonly state: string;
    readonly bytes: number;
    readonly quotaBytes: number;
    /** How often a damaged database was dealt with. */
    readonly salvages: number;
    /** The folder in the state folder with the last damaged database; null: there is none. */
    readonly aside: string | null;
    /** Why it takes no writes, or not all of them, and what to do; null: it takes all. */
    readonly trouble: string | null;
  };
  readonly commands: {
    readonly queued: number;
    readonly running: number;
    readonly finished: number;
    readonly rejected: number;
  };
  readonly plugins: readonly StatusPlugin[];
  readonly health: { readonly status: string; readonly alarms: readonly StatusAlarm[] };
}

export interface StatusLane {
  readonly messages: number;
  readonly bytes: number;
  readonly oldestAgeMs: number;
  readonly dropped: Readonly<Record<string, number>>;
}

export interface StatusPlugin {
  readonly name: string;
  readonly version: string;
  readonly isolation: string;
  readonly state: string;
  readonly restarts: number;
}

/** A raised alarm, as on the alarm lane (surface 5). */
export interface StatusAlarm {
  readonly alarm: string;
  readonly severity: string;
  readonly cause: string;
  readonly at: number;
}

/** A control part with fake ports on real sockets, and ways to talk to it. */
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import {
  Control,
  type ControlOptions,
  type ControlPorts,
  type StatusReport,
} from "../../../agent/control/control.ts";
import { silentLog } from "../../../agent/core/log.ts";
import type { OutgoingMessage, Receipt } from "../../../agent/core/message.ts";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { tempDir } from "../../support/temp-dir.ts";

export const epoch = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

export const sampleStatus: StatusReport = {
  version: "1.2.3",
  startedAt: 1_767_225_600_000,
  device: { clientId: "GID_demo@@@gw-01" },
  connection: {
    state: "online",
    endpoint: "mqtt://127.0.0.1:1883",
    since: 1_767_225_601_000,
    attempts: 0,
    lastError: null,
  },
  credentials: { mode: "signature", expiresAt: null, renewedAt: null },
  clock: { trusted: true, source: "kernel", offsetMs: null },
  outbox: {
    lanes: {
      telemetry: { messages: 12, bytes: 3400, oldestAgeMs: 5_000, dropped: { full: 2 } },
      reply: { messages: 0, bytes: 0, oldestAgeMs: 0, dropped: {} },
    },
    inFlight: 3,
    quarantined: 0,
    persisted: 7,
    elided: 90,
  },
  store: {
    state: "open",
    bytes: 1_000_000,
    quotaBytes: 335_544_320,
    salvages: 0,
    aside: null,
    trouble: null,
  },
  commands: { queued: 0, running: 1, finished: 5, rejected: 2 },
  plugins: [
    { name: "system", version: "1.0.0", isolation: "inline", state: "running", restarts: 0 },
  ],
  health: {
    status: "warn",
    alarms: [{ alarm: "outbox.telemetry", severity: "warning", cause: "It is full.", at: 1 }],
  },
};

export interface Fixture {
  readonly control: Control;
  readonly dir: string;
  readonly messages: OutgoingMessage[];
  ask(method: string, path: string, options?: AskOptions): Promise<Reply>;
  /** A raw connection to the operator's socket. */
  dial(socketName?: string): Promise<Dialled>;
}

interface AskOptions {
  readonly body?: string | Uint8Array;
  readonly socket?: "holdfast.sock" | "producer.sock";
  readonly headers?: Record<string, string | number>;
}

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into answers of every shape
  readonly json: any;
}

export interface Dialled {
  readonly socket: Socket;
  /** Everything received so far. */
  received(): string;
  readonly closed: Promise<void>;
}

export async function startControl(
  ports: Partial<ControlPorts> = {},
  options: Partial<ControlOptions> = {},
): Promise<Fixture> {
  const dir = options.dir ?? join(await tempDir(), "run");
  const messages: OutgoingMessage[] = [];
  const put = (message: OutgoingMessage): Promise<Receipt> => {
    const seq = messages.push(message);
    return Promise.resolve({ id: `${epoch}-${seq}`, seq, safe: "disk" });
  };
  const all: ControlPorts = {
    put,
    status: () => sampleStatus,
    health: () => ({ ok: true, reasons: [] }),
    lists: {},
    ...ports,
  };
  const control = new Control(
    { dir, up: "GW_UP", ...options },
    { ports: all, clock: new SystemClock(), log: silentLog },
  );
  const life = new AbortController();
  onTestFinished(async () => {
    await control.stop(AbortSignal.abort());
    life.abort();
  });
  await control.start(life.signal);
  return {
    control,
    dir,
    messages,
    ask: (method, path, ask = {}) =>
      send(join(dir, ask.socket ?? "holdfast.sock"), method, path, ask),
    dial: (name = "holdfast.sock") => dial(join(dir, name)),
  };
}

function send(
  socketPath: string,
  method: string,
  path: string,
  options: AskOptions,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const { body = "", headers = {} } = options;
    const length = method === "GET" ? {} : { "content-length": Buffer.byteLength(body) };
    const all = { ...length, ...headers };
    const sent = httpRequest({ socketPath, method, path, headers: all, agent: false });
    sent.on("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const isJson = response.headers["content-type"] === "application/json";
        const json = isJson ? JSON.parse(text) : undefined;
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json });
      });
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

function dial(path: string): Promise<Dialled> {
  return new Promise((resolve, reject) => {
    let received = "";
    const socket = connect({ path });
    const closed = new Promise<void>((done) => socket.once("close", () => done()));
    socket.setEncoding("utf8");
    socket.on("data", (data: string) => {
      received += data;
    });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.on("error", () => undefined);
      resolve({ socket, received: () => received, closed });
    });
    onTestFinished(() => void socket.destroy());
  });
}

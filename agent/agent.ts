/**
 * The composition root: builds every part from the configuration, starts them in order, stops them
 * in reverse. Nothing is decided here.
 *
 * Order: store, outbox, alarms, schedule, host (plugins started, not yet fed), commands (recovery),
 * connection, forwarder, health, control, ready. Ready means able to store and to run commands, not
 * online: a gateway boots without a network. Stopping is the reverse, so that new work is refused
 * first and the store, which all others need, closes last.
 */
import system from "../plugins/system/plugin.ts";
import { Commands } from "./commands/commands.ts";
import type { Config, LoadedConfig } from "./config/config.ts";
import { Session } from "./connection/connection.ts";
import { Control } from "./control/control.ts";
import { type Clock, withDeadline, withTrust } from "./core/clock.ts";
import type { Component } from "./core/component.ts";
import { describeError } from "./core/errors.ts";
import type { Logger } from "./core/log.ts";
import { type Random, ulid } from "./core/random.ts";
import { Alarms, Health, newNonce, systemProbes } from "./health/health.ts";
import { Host } from "./host/host.ts";
import { Log, type LogStream } from "./log/log.ts";
import { countMissing, DurableOutbox, Forwarder, type Publisher } from "./outbox/outbox.ts";
import { Schedule } from "./schedule/schedule.ts";
import { ClockTruster, readBootId } from "./service/service.ts";
import { DatabaseStore, FileVolatileLog, type KeyValueOpener, openLevel } from "./store/store.ts";
import { AccessPrint } from "./wiring/access-print.ts";
import { KnownSession } from "./wiring/known-session.ts";
import * as options from "./wiring/options.ts";
import { controlPorts, healthSources, type Parts } from "./wiring/ports.ts";
import { QuarantineWatch } from "./wiring/quarantine-watch.ts";
import { changedKeys } from "./wiring/reload.ts";
import { type PastRuns, RunLog } from "./wiring/run-record.ts";
import { StoreWatch } from "./wiring/store-watch.ts";
import { WATCH_EVERY_MS, Watch } from "./wiring/watch.ts";

export interface AgentOptions {
  readonly loaded: LoadedConfig;
  readonly version: string;
  /** A clean_session that differs from the last good connection's is meant. */
  readonly acceptSessionChange?: boolean;
}

export interface AgentDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly stderr: LogStream;
  /** For tests: another disk than the machine's. */
  readonly openDatabase?: KeyValueOpener;
}

const CONTROL_MESSAGE_MS = 10_000;

export class Agent implements Component {
  readonly name = "agent";
  /** In the order of their start. */
  readonly #components: readonly Component[];
  readonly #started: Component[] = [];
  readonly #parts: Parts;
  /** What is in force: the keys that a reload took over, and the others as they were. */
  #config: Config;
  readonly #runLog: RunLog;
  readonly #known: KnownSession;
  readonly #log: Log;
  readonly #life = new AbortController();
  /** Resolves when the store, which could not be opened at the start, can be opened now. */
  readonly again: Promise<void>;
  #consuming: Promise<void> | undefined;
  #noting: Promise<void> | undefined;
  #state: "new" | "running" | "stopped" = "new";

  constructor(parts: Parts, components: readonly Component[], log: Log) {
    this.#parts = parts;
    this.again = parts.recoverable;
    this.#config = parts.config;
    this.#components = components;
    this.#log = log;
    this.#runLog = new RunLog(parts.store, parts.bootId);
    this.#known = new KnownSession(parts.config, { store: parts.store, log });
  }

  async start(signal: AbortSignal): Promise<void> {
    if (this.#state !== "new") return;
    this.#state = "running";
    const { commands, session, health, store, outbox, started } = this.#parts;
    for (const component of this.#components) {
      await component.start(AbortSignal.any([signal, this.#life.signal]));
      this.#started.push(component);
      if (component === store) {
        started.past = await this.#noteBeginning();
        await this.#known.check(this.#parts.acceptsSessionChange);
      }
      if (component === outbox) await this.#reconsider();
      if (component === session) {
        this.#consuming = commands.consume(session, this.#life.signal);
        session.onChange(() => {
          if (session.state === "online") this.#noting = this.#known.note();
          health.wake(session.state === "online" ? "connect" : "state");
        });
      }
    }
    this.#log.info("ready", { clientId: this.#parts.config.device.client_id });
  }

  async stop(deadline: AbortSignal): Promise<void> {
    if (this.#state !== "running") return;
    this.#state = "stopped";
    this.#log.info("stopping");
    await this.#noting;
    const { store } = this.#parts;
    let clean = true;
    for (const component of this.#started.reverse()) {
      if (component === store && clean) await this.#noteCleanEnd();
      try {
        await component.stop(deadline);
      } catch (error) {
        clean = false;
        this.#log.error("stop failed", { part: component.name, error: describeError(error) });
      }
    }
    this.#life.abort();
    await this.#consuming;
    this.#log.info("stopped", { clean });
  }

  /** Takes the keys that can change while it runs. */
  async reload({ config }: LoadedConfig): Promise<void> {
    const { taken, waiting } = changedKeys(this.#config, config);
    this.#log.setLevel(config.log.level);
    this.#config = { ...this.#config, log: config.log };
    this.#log.info("configuration read again", { taken });
    if (waiting.length > 0) this.#log.warn("changed keys wait for a restart", { keys: waiting });
    this.#parts.outbox.quarantine.retry(); // Who asks for this has changed something, here or there.
  }

  /** What the service refused may go through with another address or other credentials. */
  async #reconsider(): Promise<void> {
    const { store, outbox, config } = this.#parts;
    try {
      if (await new AccessPrint(store, config).changed(store.id)) outbox.quarantine.retry();
    } catch (error) {
      this.#log.warn("access not compared with the last start", { error: describeError(error) });
    }
  }

  /** A disk that takes nothing must not keep the agent from sending what is on it. */
  async #noteBeginning(): Promise<PastRuns> {
    try {
      return await this.#runLog.begin();
    } catch (error) {
      this.#log.warn("beginning not noted", { error: describeError(error) });
      return { restarts: 0, lastExit: null };
    }
  }

  async #noteCleanEnd(): Promise<void> {
    try {
      await this.#runLog.end();
    } catch (error) {
      this.#log.warn("clean end not noted", { error: describeError(error) });
    }
  }
}

/** Throws `config_invalid` for what this release cannot do; starts nothing. */
export async function createAgent(
  { loaded, version, acceptSessionChange = false }: AgentOptions,
  deps: AgentDeps,
): Promise<Agent> {
  const { config, warnings } = loaded;
  options.checkSupported(config);
  const log = new Log({ level: config.log.level }, { stream: deps.stderr, clock: deps.clock });
  for (const warning of warnings) log.warn("configuration", { ...warning });

  const truster = new ClockTruster({ trust: config.clock.trust }, deps.clock);
  const clock = withTrust(deps.clock, () => truster.state().trusted);
  const { random } = deps;
  const bootId = readBootId() ?? ulid(clock.wallMs(), random);
  const nonce = newNonce(random);
  const who = options.identity(config);
  const { up } = config.topics;

  const openDatabase = deps.openDatabase ?? openLevel;
  const store = new DatabaseStore(options.storeOptions(config), {
    ...{ openDatabase, random, log, countMissing },
    onCrowded: () => void storeWatch.look(),
  });
  const openVolatile = (name: string): FileVolatileLog =>
    new FileVolatileLog(
      { dir: options.controlDir(config), name, identity: () => `${store.id} ${bootId}` },
      (error) => log.warn("volatile log not written", { name, error: describeError(error) }),
    );
  const outbox = new DurableOutbox(options.outboxOptions(config, bootId, who), {
    store,
    volatileLog: openVolatile("settled"),
    producerLog: openVolatile("producers"),
    clock,
    random,
    log,
  });
  const alarms = new Alarms({ topic: who.topics.alarm }, { store, outgoing: outbox, clock, log });
  const schedule = new Schedule({}, { clock, log });
  const watch = new Watch({ outbox, alarms });
  const recoverable = Promise.withResolvers<void>();
  const storeWatch: StoreWatch = new StoreWatch({
    ...{ store, outbox, alarms, clock, log },
    onRecoverable: recoverable.resolve,
  });
  schedule.every("watch", WATCH_EVERY_MS, async () => {
    watch.look();
    await storeWatch.look();
  });
  const quarantineWatch = new QuarantineWatch({ outbox, alarms });
  schedule.every("quarantine", WATCH_EVERY_MS, async () => quarantineWatch.look());
  schedule.every("outbox", WATCH_EVERY_MS, () => outbox.tidy());
  const host = new Host(
    {
      enabled: config.plugins.enabled,
      builtins: [system],
      configs: config.plugins.config,
      up,
      device: { clientId: who.clientId.text, agentVersion: version, nonce },
    },
    { clock, log, outgoing: outbox, alarms },
  );
  const commands = new Commands(
    options.commandsOptions(config, {
      runId: outbox.epoch,
      bootId,
      concurrency: (plugin) => host.concurrency(plugin),
      readsOnly: (command) => host.readsOnly(command),
    }),
    { store, outbox, dispatcher: host, clock, random, log },
  );
  const session = new Session(options.sessionOptions(config, who), {
    clock,
    random,
    log,
    authenticator: options.authenticator(config),
  });
  const { window, max_rate: maxRate } = config.outbox;
  const connected = config.service.ordered ? orderedConnection(session, clock, log) : session;
  const forwarder = new Forwarder(
    { window, maxRate, ackTimeoutMs: config.service.ack_timeout_ms },
    { outbox, connected: (signal) => connected.connected(signal), clock, log },
  );
  const health: Health = new Health(
    { topic: who.topics.health, intervalMs: config.health.interval_s * 1_000, nonce },
    {
      sources: healthSources(() => parts),
      probes: systemProbes({ stateDir: config.state.dir }),
      outgoing: outbox,
      clock,
      log,
    },
  );
  const started = {
    wallMs: clock.wallMs(),
    monotonicMs: clock.monotonicMs(),
    past: { restarts: 0, lastExit: null },
  };
  const parts: Parts = {
    acceptsSessionChange: acceptSessionChange,
    ...{ config, version, bootId, clock, truster, started, recoverable: recoverable.promise },
    ...{ store, outbox, alarms, schedule, host, commands, session, forwarder, health },
  };
  const control = new Control(
    { dir: options.controlDir(config), up },
    { ports: controlPorts(parts), clock, log },
  );
  const components = [store, outbox, alarms, schedule, host, commands, session, forwarder, health];
  return new Agent(parts, [...components, control], log);
}

/**
 * lmq-protocol 8: the order command goes first on every connection, before any other publish. A
 * connection on which it is not acknowledged is of no use for ordered sending, and is given up.
 */
function orderedConnection(
  session: Session,
  clock: Clock,
  log: Logger,
): { connected(signal: AbortSignal): Promise<Publisher | undefined> } {
  const message = { topic: "$SYS/enableOrderMsg", payload: '{"order":"true"}' };
  return {
    connected: async (signal) => {
      for (;;) {
        const publisher = await session.connected(signal);
        if (!publisher || signal.aborted) return undefined;
        try {
          const sent = await withDeadline(clock, CONTROL_MESSAGE_MS, signal, (patience) =>
            session.publish(message, patience),
          );
          if (!sent.timedOut) return publisher;
          log.warn("order not enabled", { error: "no acknowledgement in time" });
        } catch (error) {
          if (signal.aborted) return undefined;
          log.warn("order not enabled", { error: describeError(error) });
        }
        session.giveUp(publisher);
        await publisher.closed;
      }
    },
  };
}

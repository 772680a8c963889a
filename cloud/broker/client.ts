/**
 * One connection's side of MQTT 3.1.1, with the answers of the sheet where it overrides the
 * standard: a publish or subscribe that is not allowed closes the connection (lmq-protocol 1.4),
 * the filter over the limit is answered 0x80, a will is taken and never sent, RETAIN is cleared.
 *
 * States: stranger (no CONNECT yet) -> connecting (its session is being written) -> open -> closed.
 * Only `open` takes packets; while connecting nothing is read.
 */
import type { Duplex } from "node:stream";
import {
  type Denial,
  decidePublish,
  decideSubscribe,
  type Principal,
  type TokenPrincipal,
} from "../access/access.ts";
import { Channel, type CloseReason } from "./channel.ts";
import type { BrokerContext } from "./context.ts";
import type { Deadline } from "./deadlines.ts";
import { Delivery, type Push } from "./delivery.ts";
import type { Frame } from "./framer.ts";
import { connack, readHandshake } from "./handshake.ts";
import {
  type AckKind,
  type ClientPacket,
  type ConnectPacket,
  type PublishPacket,
  readPacket,
  writeAck,
  writeConnack,
  writePingresp,
  writeSuback,
  writeUnsuback,
} from "./packets.ts";
import { formatPeer, readOrder } from "./peer.ts";
import { RateLimit } from "./rate-limit.ts";
import { Replies } from "./replies.ts";
import type { Sender } from "./router.ts";
import type { Online, Session } from "./sessions.ts";
import { TokenSession, writeInvalidNotice } from "./token-session.ts";

/** A CONNECT is small: what a stranger can make us buffer, in bytes. */
export const CONNECT_BYTES = 16_384;
/** Room of a PUBLISH beside its payload: topic, packet id and the longest text of a topic. */
const PUBLISH_HEAD_BYTES = 1_024;
/** Replies that wait for the disk above which nothing more is read. */
const REPLIES_HIGH = 1_000;
/** The same for bytes on their way to the disk, of all clients together. */
const STORAGE_HIGH_BYTES = 33_554_432;
/** QoS 2 messages that a client may leave unreleased. */
const RECEIVED_MAX = 1_000;
/** lmq-protocol 1.4: a longer keep-alive is cut to 8 minutes. */
const KEEP_ALIVE_MAX_S = 480;
/** Closings that say something is wrong with a client or its configuration. */
const TELLING: ReadonlySet<CloseReason> = new Set([
  "not authorized",
  "resource auth failed",
  "invalid param",
  "clientId conflict",
  "too many connections",
  "storage failed",
]);

const closeReasons: Readonly<Partial<Record<Denial["code"], CloseReason>>> = {
  no_permission: "resource auth failed",
  not_authorized: "not authorized",
};

export interface ClientHandlers {
  /** It has sent a CONNECT that was accepted or refused: it is no stranger any more. */
  identified(): void;
  closed(): void;
}

export class Client implements Online {
  readonly #context: BrokerContext;
  readonly #handlers: ClientHandlers;
  readonly #address: string;
  readonly #port: number;
  readonly #channel: Channel;
  readonly #replies: Replies;
  readonly #rate: RateLimit;
  #state: "stranger" | "connecting" | "open" | "closed" = "stranger";
  #principal: Principal | undefined;
  /** In token mode, which then knows the principal of the moment. */
  #tokens: TokenSession | undefined;
  #session: Session | undefined;
  #sender: Sender = { clientId: "", clean: true, ordered: false };
  #endPresence: ((byDisconnect: boolean) => void) | undefined;
  #delivery: Delivery | undefined;
  #deadline: Deadline | undefined;
  #lastPacketMs = 0;

  constructor(
    options: { readonly address: string; readonly port: number },
    deps: {
      readonly stream: Duplex;
      readonly context: BrokerContext;
      readonly handlers: ClientHandlers;
    },
  ) {
    this.#address = options.address;
    this.#port = options.port;
    this.#context = deps.context;
    this.#handlers = deps.handlers;
    this.#channel = new Channel(
      { bound: CONNECT_BYTES },
      {
        stream: deps.stream,
        deadlines: deps.context.deadlines,
        handlers: {
          frame: (frame) => this.#frame(frame),
          drained: () => this.#delivery?.drained(),
          resumed: () => this.#heard(),
          closed: (reason, detail) => this.#closed(reason, detail),
        },
      },
    );
    this.#replies = new Replies((bytes) => this.#channel.write(bytes));
    this.#rate = new RateLimit(deps.context.limits.ratePerClient, {
      clock: deps.context.clock,
      deadlines: deps.context.deadlines,
      channel: this.#channel,
    });
  }

  start(): void {
    this.#deadline = this.#context.deadlines.after(this.#context.timings.connectTimeoutMs, () =>
      this.#channel.destroy("connect timeout"),
    );
    this.#channel.start();
  }

  push(push: Push): void {
    const denial = this.#tokens?.deniedToReceive();
    if (denial) this.#deny(denial);
    this.#delivery?.push(push);
  }

  /** Some token was revoked. */
  recheckTokens(): void {
    const denial = this.#state === "open" ? this.#tokens?.deniedByRevocation() : undefined;
    if (denial) this.#deny(denial);
  }

  close(reason: CloseReason, detail?: string): void {
    this.#channel.close(reason, detail);
  }

  #frame(frame: Frame): void {
    if (this.#state === "stranger") {
      this.#connect(frame);
      return;
    }
    this.#heard();
    this.#packet(readPacket(frame));
  }

  #heard(): void {
    this.#lastPacketMs = this.#context.clock.monotonicMs();
  }

  #packet(packet: ClientPacket): void {
    switch (packet.kind) {
      case "publish":
        this.#publish(packet);
        return;
      case "puback":
      case "pubrec":
      case "pubcomp":
        this.#delivery?.acknowledged(packet.kind, packet.packetId);
        return;
      case "pubrel":
        this.#session?.received.delete(packet.packetId);
        // [MQTT-4.3.3-2]; behind the PUBREC, also for one who did not wait for that.
        this.#reply((done) => done(), writeAck("pubcomp", packet.packetId));
        return;
      case "subscribe":
        this.#subscribe(packet);
        return;
      case "unsubscribe":
        this.#unsubscribe(packet);
        return;
      case "pingreq":
        this.#channel.write(writePingresp()); // [MQTT-3.12.4-1]
        return;
      case "disconnect":
        this.close("disconnected by client");
        return;
      case "connect":
        this.close("invalid param", "A second CONNECT came."); // [MQTT-3.1.0-2]
        return;
    }
  }

  #connect(frame: Frame): void {
    const { directory, limits, tokens } = this.#context;
    const handshake = readHandshake(frame, directory(), limits, tokens);
    if (!handshake.allow) {
      const { returnCode, reason, detail, notice } = handshake;
      this.#refuse(returnCode, reason, detail, notice && writeInvalidNotice(notice));
      return;
    }
    const { packet, principal } = handshake;
    this.#principal = principal;
    if (principal.mode === "token") this.#tokens = this.#tokenSession(principal);
    this.#state = "connecting";
    this.#handlers.identified();
    this.#channel.bound = limits.payloadBytes + PUBLISH_HEAD_BYTES;
    this.#channel.hold("connecting");
    const attached = this.#context.sessions.attach(packet.clientId, packet.clean);
    if (!attached) {
      this.#refuse(connack.unavailable, "too many connections", "There are too many sessions.");
      return;
    }
    const { session, present } = attached;
    this.#session = session;
    this.#sender = { clientId: session.clientId, clean: session.clean, ordered: false };
    this.#context.sessions.save(session, (error) => this.#opened(packet, present, error));
  }

  #opened(packet: ConnectPacket, present: boolean, error: Error | undefined): void {
    const session = this.#session;
    if (this.#state !== "connecting" || !session) return;
    if (error) {
      this.#refuse(connack.unavailable, "storage failed", error.message);
      return;
    }
    const denial = this.#tokens?.deniedByRevocation();
    if (denial) {
      this.#refuse(connack.unauthorized, "not authorized", denial.message, noticeOf(denial));
      return;
    }
    const { limits, timings, deadlines, stats } = this.#context;
    const keepAliveMs = Math.min(packet.keepAliveS, KEEP_ALIVE_MAX_S) * 1_000;
    this.#delivery = new Delivery(
      { clientId: packet.clientId, limits, timings, keepAliveMs: keepAliveMs || Infinity },
      { ...this.#context, channel: this.#channel },
    );
    if (!this.#context.sessions.open(session, this)) {
      this.close("clientId conflict");
      return;
    }
    this.#channel.write(writeConnack(connack.accepted, present));
    this.#state = "open";
    stats.connected++;
    if (this.#principal) {
      const peer = formatPeer(this.#address, this.#port);
      this.#endPresence = this.#context.presence?.opened(this.#principal.clientId, peer);
    }
    this.#context.log.debug("connected", { clientId: packet.clientId, clean: packet.clean });
    deadlines.cancel(this.#deadline);
    this.#heard();
    this.#watch(keepAliveMs * 1.5);
    this.#tokens?.start();
    this.#delivery.start();
    this.#channel.release("connecting");
  }

  #tokenSession(principal: TokenPrincipal): TokenSession {
    const { directory, deadlines, storage, timings, tokens: keeper } = this.#context;
    const clientId = principal.clientId.text;
    const expired = (): void => {
      const denial =
        (storage.mailbox(clientId)?.size ?? 0) > 0 ? this.#tokens?.deniedToReceive() : undefined;
      if (denial) this.#deny(denial);
    };
    const write = (bytes: Buffer): void => this.#channel.write(bytes);
    const options = { principal, noticeAheadMs: timings.tokenNoticeAheadMs };
    return new TokenSession(options, { directory, keeper, deadlines, write, expired });
  }

  #refuse(
    returnCode: number | undefined,
    reason: CloseReason,
    detail: string,
    notice?: Buffer,
  ): void {
    this.#context.stats.refused++;
    if (returnCode !== undefined) this.#channel.write(writeConnack(returnCode, false)); // [MQTT-3.2.2-4]
    if (notice) this.#channel.write(notice);
    this.close(reason, detail);
  }

  #publish(packet: PublishPacket): void {
    const session = this.#session;
    const principal = this.#tokens?.principal ?? this.#principal;
    if (!session || !principal) return;
    const { directory, limits, router, tokens } = this.#context;
    const { topic, qos, packetId } = packet;
    const decision = decidePublish(directory(), limits, { principal, topic }, tokens);
    if (!decision.allow) {
      this.#deny(decision);
      return;
    }
    if (packet.payload.length > limits.payloadBytes) {
      this.close("invalid param", `The payload is ${packet.payload.length} bytes long.`);
      return;
    }
    this.#rate.count();
    const isRepeat = qos === 2 && session.received.has(packetId);
    if (qos === 2 && !isRepeat) {
      if (session.received.size >= RECEIVED_MAX) {
        this.close("invalid param", "Too many QoS 2 messages are not released.");
        return;
      }
      session.received.add(packetId);
    }
    const { payload } = packet;
    if (isRepeat || decision.control) {
      if (topic === "$SYS/enableOrderMsg") this.#order(payload);
      const isUpload = topic === "$SYS/uploadToken" && !isRepeat;
      const denial = isUpload ? this.#tokens?.upload(payload) : undefined;
      const sent = denial && ((): void => this.#deny(denial));
      this.#acknowledge(qos, packetId, undefined, sent);
      if (topic === "$SYS/getOfflineMsg" && !isRepeat) this.#delivery?.pull(payload);
      return;
    }
    const sender = this.#sender;
    if (qos === 0) {
      const publication = { topic, payload, qos, keep: false, sender };
      router.route(publication, () => this.#accepted(topic, payload));
      return;
    }
    // The view of the payload lives as long as the chunk it came in.
    this.#acknowledge(qos, packetId, (done) =>
      router.route({ topic, payload, qos, keep: !session.clean, sender }, (error) => {
        if (!error) this.#accepted(topic, payload);
        else if (qos === 2) session.received.delete(packetId);
        done(error);
      }),
    );
  }

  #order(payload: Uint8Array): void {
    this.#sender = { ...this.#sender, ordered: readOrder(payload) ?? this.#sender.ordered };
  }

  #accepted(topic: string, payload: Uint8Array): void {
    this.#context.stats.accepted++;
    this.#context.tap?.(topic, payload, this.#session?.clientId ?? "");
  }

  /** PUBACK or PUBREC, in its turn, once `work` is done; nothing for QoS 0. Then `sent`. */
  #acknowledge(
    qos: number,
    packetId: number,
    work: ((done: (error?: Error) => void) => void) | undefined,
    sent?: () => void,
  ): void {
    if (qos === 0) {
      sent?.();
      return;
    }
    const kind: AckKind = qos === 1 ? "puback" : "pubrec";
    this.#reply((done) => (work ? work(done) : done()), writeAck(kind, packetId), sent);
  }

  /** Sends `bytes` in its turn, once `work` is done, then calls `sent`; closes when it fails. */
  #reply(work: (done: (error?: Error) => void) => void, bytes: Buffer, sent?: () => void): void {
    const slot = this.#replies.reserve(sent);
    work((error) => {
      if (error) {
        this.close("storage failed", error.message);
        return;
      }
      this.#replies.fill(slot, bytes);
      if (this.#replies.waiting <= REPLIES_HIGH / 2) this.#channel.release("replies");
    });
    const { waiting } = this.#replies;
    const storageFull = this.#context.storage.pendingBytes > STORAGE_HIGH_BYTES;
    if (waiting > REPLIES_HIGH || (waiting > 0 && storageFull)) this.#channel.hold("replies");
  }

  #subscribe(packet: Extract<ClientPacket, { kind: "subscribe" }>): void {
    const session = this.#session;
    const principal = this.#tokens?.principal ?? this.#principal;
    if (!session || !principal) return;
    const { directory, limits, sessions, tokens } = this.#context;
    const controls: boolean[] = [];
    for (const { filter } of packet.subscriptions) {
      const decision = decideSubscribe(directory(), limits, { principal, filter }, tokens);
      if (!decision.allow) {
        this.#deny(decision);
        return;
      }
      controls.push(decision.control);
    }
    const real = packet.subscriptions.filter((_, i) => !controls[i]);
    const granted = sessions.subscribe(session, real).values();
    const codes = packet.subscriptions.map(({ qos }, i) =>
      controls[i] ? qos : (granted.next().value ?? 0x80),
    );
    this.#reply((done) => sessions.save(session, done), writeSuback(packet.packetId, codes));
  }

  #unsubscribe(packet: Extract<ClientPacket, { kind: "unsubscribe" }>): void {
    const session = this.#session;
    if (!session) return;
    const { sessions } = this.#context;
    sessions.unsubscribe(session, packet.filters);
    this.#reply((done) => sessions.save(session, done), writeUnsuback(packet.packetId));
  }

  #deny(denial: Denial): void {
    const notice = noticeOf(denial);
    if (notice) this.#channel.write(notice);
    this.close(closeReasons[denial.code] ?? "invalid param", denial.message);
  }

  /**
   * [MQTT-3.1.2-24]: closes after `timeoutMs` without a packet; 0 is never. What we do not read,
   * while the disk is slow or the client over its rate, is not missed.
   */
  #watch(timeoutMs: number): void {
    if (timeoutMs === 0) return;
    if (this.#channel.heldByUs) this.#heard();
    const quietMs = this.#context.clock.monotonicMs() - this.#lastPacketMs;
    if (quietMs >= timeoutMs) {
      this.#channel.destroy("no heart");
      return;
    }
    const leftMs = timeoutMs - quietMs;
    this.#deadline = this.#context.deadlines.after(leftMs, () => this.#watch(timeoutMs));
  }

  #closed(reason: CloseReason, detail: string | undefined): void {
    const wasOpen = this.#state === "open";
    this.#state = "closed";
    this.#context.deadlines.cancel(this.#deadline);
    this.#rate.stop();
    this.#tokens?.stop();
    this.#delivery?.end();
    this.#endPresence?.(reason === "disconnected by client");
    if (reason === "clientId conflict") this.#context.stats.takeovers++;
    if (this.#session) this.#context.sessions.detach(this.#session, wasOpen ? this : undefined);
    const clientId = this.#principal?.clientId.text;
    const fields = { clientId, address: this.#address, reason, detail };
    this.#context.log.debug("closed", fields);
    if (TELLING.has(reason)) this.#context.closings.report("info", `closed: ${reason}`, "", fields);
    this.#handlers.closed();
  }
}

function noticeOf({ notice }: Denial): Buffer | undefined {
  return notice && writeInvalidNotice(notice);
}

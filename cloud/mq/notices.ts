/**
 * Presence notices: lmq-protocol 7.3. Each connection that a client opened gets a channel id and
 * gives `connect`, perhaps `disconnect`, and always `tcpclean`, as messages on `<group>_MQTT`.
 *
 * "Always" includes the end of the service itself: a channel is on disk from its `connect` to its
 * `tcpclean`, each in one commit with the notice, so the next start gives the `tcpclean` of those
 * that a kill or a power cut ended. Nobody waits for a notice: neither the CONNACK nor a sync. A
 * group whose topic was not created has no notices, and no channels on disk.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Random } from "../../agent/core/random.ts";
import type { ClientId } from "../../agent/protocol/client-id.ts";
import type { Codec, Store, Table, Write } from "../../agent/store/store.ts";
import type { Directory } from "../access/access.ts";
import type { Mq } from "./mq.ts";

interface Channel {
  readonly topic: string;
  readonly clientId: string;
  readonly clientIp: string;
}

type EventType = "connect" | "disconnect" | "tcpclean";

const CHANNEL_BYTES = 16;
const PAGE = 1_000;

export class Notices {
  readonly #mq: Mq;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #directory: () => Directory;
  readonly #channels: Table<Channel>;

  constructor(deps: {
    readonly mq: Mq;
    readonly store: Store;
    readonly clock: Clock;
    readonly random: Random;
    readonly directory: () => Directory;
  }) {
    this.#mq = deps.mq;
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#directory = deps.directory;
    this.#channels = deps.store.table("cloud_channels", channelCodec);
  }

  /** Ends the channels that were open when the service ended; before anybody can connect. */
  async start(): Promise<void> {
    let gt = "";
    for (;;) {
      let count = 0;
      const damaged = (key: string): void => {
        count++;
        gt = key;
      };
      for await (const [id, channel] of this.#channels.range({ gt, limit: PAGE, damaged })) {
        count++;
        gt = id;
        this.#tell("tcpclean", id, channel, [this.#channels.del(id)]);
      }
      if (count === 0) return;
    }
  }

  /** A client is connected; the result is called when its connection has ended. */
  opened(clientId: ClientId, clientIp: string): (byDisconnect: boolean) => void {
    const topic = `${clientId.group}_MQTT`;
    if (!this.#directory().topics.has(topic)) return () => undefined;
    const id = Buffer.from(this.#random.bytes(CHANNEL_BYTES)).toString("hex");
    const channel: Channel = { topic, clientId: clientId.text, clientIp };
    this.#tell("connect", id, channel, [this.#channels.put(id, channel)]);
    return (byDisconnect) => {
      if (byDisconnect) this.#tell("disconnect", id, channel, []);
      this.#tell("tcpclean", id, channel, [this.#channels.del(id)]);
    };
  }

  #tell(eventType: EventType, channelId: string, channel: Channel, writes: readonly Write[]): void {
    const { topic, clientId, clientIp } = channel;
    const notice = { clientId, time: this.#clock.wallMs(), eventType, channelId, clientIp };
    this.#mq.note(topic, { tag: eventType, body: Buffer.from(JSON.stringify(notice)) }, writes);
  }
}

const channelCodec: Codec<Channel> = {
  encode: ({ topic, clientId, clientIp }) =>
    Buffer.from(JSON.stringify([topic, clientId, clientIp])),
  decode: (bytes) => {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    const [topic, clientId, clientIp] = Array.isArray(value) ? (value as unknown[]) : [];
    if (typeof topic !== "string" || typeof clientId !== "string" || typeof clientIp !== "string") {
      throw new HoldfastError("store_damaged", "A record that should hold a channel holds none.");
    }
    return { topic, clientId, clientIp };
  },
};

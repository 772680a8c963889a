/** A TCP proxy on the loopback: the network between agent and service, which the demo can cut. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class FragileLink {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;
  #refused = 0;

  private constructor(targetPort: number) {
    this.#server = createServer((socket) => this.#accept(socket, targetPort));
  }

  static async open(targetPort: number): Promise<FragileLink> {
    const link = new FragileLink(targetPort);
    link.#server.listen(0, "127.0.0.1");
    await once(link.#server, "listening");
    return link;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Attempts to connect while it was cut, since the last cut. */
  get refused(): number {
    return this.#refused;
  }

  /** Resets what is connected, and from now on whatever tries. */
  cut(): void {
    this.#isCut = true;
    this.#refused = 0;
    this.#resetAll();
  }

  heal(): void {
    this.#isCut = false;
  }

  async close(): Promise<void> {
    this.cut();
    const closed = once(this.#server, "close");
    this.#server.close();
    await closed;
  }

  #accept(agent: Socket, targetPort: number): void {
    if (this.#isCut) {
      this.#refused++;
      agent.resetAndDestroy();
      return;
    }
    const service = connect({ host: "127.0.0.1", port: targetPort });
    for (const [socket, other] of [
      [agent, service],
      [service, agent],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
      socket.setNoDelay(true);
      socket.pipe(other);
    }
  }

  #resetAll(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }
}

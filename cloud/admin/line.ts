import type { Socket } from "node:net";

const MAX_BYTES = 16_384;
const TIMEOUT_MS = 10_000;

/** The first line that comes. Rejects when it is too long, too late or not ended. */
export function readLine(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const fail = (what: string): void => {
      reject(new Error(`The line ${what}.`));
    };
    socket.setEncoding("utf8");
    socket.setTimeout(TIMEOUT_MS, () => fail("did not come in time"));
    socket.on("data", (chunk: string) => {
      text += chunk;
      const end = text.indexOf("\n");
      if (end >= 0) resolve(text.slice(0, end));
      else if (text.length > MAX_BYTES) fail("is too long");
    });
    socket.once("error", reject);
    socket.once("close", () => fail("did not end"));
  });
}

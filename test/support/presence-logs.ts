/**
 * Random logs of presence notices, shuffled and duplicated, and a judge that needs no state: it
 * reads the whole log for each question, by the words of lmq-protocol 7.3.
 */
import {
  type Judgement,
  type PresenceEvent,
  PresenceJudge,
} from "../../cloud/operator/operator.ts";
import { SeededRandom } from "./seeded-random.ts";

const CLIENTS = ["GID_a@@@1", "GID_a@@@2", "GID_b@@@1"];

/** Runs one log; throws with the seed and the log when the judge and the oracle differ. */
export function runPresenceLog(seed: number): { readonly events: number; readonly online: number } {
  const random = new SeededRandom(seed);
  const log = makeLog(random);
  let judge = new PresenceJudge({ clients: 100 });
  // A restart in between: what was saved is all that is known.
  const restartAt = pick(random, log.length + 1);
  const lookAt = pick(random, log.length + 1);
  let online = 0;
  for (const [i, event] of log.entries()) {
    if (i === restartAt) {
      const again = new PresenceJudge({ clients: 100 });
      if (!again.load(JSON.parse(JSON.stringify(judge.save())))) throw new Error("save and load");
      judge = again;
    }
    judge.add(event);
    if (i === lookAt || i === log.length - 1) {
      for (const clientId of CLIENTS) {
        const found = judge.judge(clientId);
        const expected = judgeByReadingAll(log.slice(0, i + 1), clientId);
        if (JSON.stringify(found) !== JSON.stringify(expected)) {
          const said = `${JSON.stringify(found)} and not ${JSON.stringify(expected)}`;
          throw new Error(`seed ${seed}: of ${clientId} ${said}\n${JSON.stringify(log, null, 1)}`);
        }
        if (found?.online) online++;
      }
    }
  }
  return { events: log.length, online };
}

/** The oracle: no order, no state, every channel looked up in the whole log. */
function judgeByReadingAll(log: readonly PresenceEvent[], clientId: string): Judgement | undefined {
  const own = log.filter((event) => event.clientId === clientId);
  if (own.length === 0) return undefined;
  const of = (channelId: string, ends: boolean): number[] =>
    own
      .filter((e) => e.channelId === channelId && (e.eventType !== "connect") === ends)
      .map(({ time }) => time);
  const channels = [...new Set(own.map(({ channelId }) => channelId))];
  const open = channels.filter((id) => of(id, false).length > 0 && of(id, true).length === 0);
  const since =
    open.length > 0
      ? Math.max(...open.map((id) => Math.min(...of(id, false))))
      : Math.max(...channels.map((id) => Math.min(...of(id, true))));
  return { online: open.length > 0, connections: open.length, since };
}

/** Lives of a few connections as the service tells them, some notices lost, then shuffled. */
function makeLog(random: SeededRandom): PresenceEvent[] {
  const log: PresenceEvent[] = [];
  let time = 1_600_000_000_000;
  const count = 1 + pick(random, 8);
  for (let i = 0; i < count; i++) {
    const clientId = CLIENTS[pick(random, CLIENTS.length)] as string;
    const channelId = pick(random, 1_000_000).toString(16).padStart(32, "0");
    const add = (eventType: PresenceEvent["eventType"]): void => {
      time += pick(random, 3); // Often the same millisecond.
      if (random.float() < 0.95) log.push({ clientId, channelId, eventType, time });
    };
    add("connect");
    const end = random.float();
    if (end < 0.4) add("disconnect");
    if (end < 0.8) add("tcpclean");
  }
  const copies = log.filter(() => random.float() < 0.4);
  const all = [...log, ...copies, ...copies.filter(() => random.float() < 0.3)];
  // Some logs stay nearly in order, as a real service sends them; most are shuffled.
  if (random.float() < 0.2) return all;
  for (let i = all.length - 1; i > 0; i--) {
    const j = pick(random, i + 1);
    [all[i], all[j]] = [all[j] as PresenceEvent, all[i] as PresenceEvent];
  }
  return all;
}

function pick(random: SeededRandom, below: number): number {
  return Math.floor(random.float() * below);
}

/** The rules of lmq-protocol 7.3, one by one and on thousands of shuffled logs. */
import { expect, test } from "vitest";
import {
  type PresenceEvent,
  PresenceJudge,
  readPresenceEvent,
} from "../../../cloud/operator/operator.ts";
import { runPresenceLog } from "../../support/presence-logs.ts";

const client = "GID_demo@@@gw-01";

function event(
  eventType: PresenceEvent["eventType"],
  channelId: string,
  time: number,
): PresenceEvent {
  return { clientId: client, channelId, eventType, time };
}

function judged(...events: readonly PresenceEvent[]) {
  const judge = new PresenceJudge({ clients: 10 });
  for (const one of events) judge.add(one);
  return judge.judge(client);
}

test("a channel that was opened and not ended is online, since it was opened", () => {
  expect(judged(event("connect", "a", 5))).toEqual({ online: true, connections: 1, since: 5 });
});

test("an end counts against its own channel only, also a newer one", () => {
  expect(
    judged(event("connect", "a", 5), event("connect", "b", 6), event("tcpclean", "a", 9)),
  ).toEqual({ online: true, connections: 1, since: 6 });
});

test("an end that comes before its connect counts", () => {
  expect(judged(event("tcpclean", "a", 9), event("connect", "a", 5))).toMatchObject({
    online: false,
    since: 9,
  });
});

test("a late duplicate connect does not revive a dead channel", () => {
  expect(
    judged(event("connect", "a", 5), event("tcpclean", "a", 9), event("connect", "a", 5)),
  ).toMatchObject({ online: false });
});

test("a disconnect is an end, and the tcpclean behind it changes nothing", () => {
  const first = [event("connect", "a", 5), event("disconnect", "a", 8)];
  expect(judged(...first)).toMatchObject({ online: false, since: 8 });
  expect(judged(...first, event("tcpclean", "a", 9))).toMatchObject({ online: false, since: 8 });
});

test("two open channels are two connections", () => {
  expect(judged(event("connect", "a", 5), event("connect", "b", 6))).toMatchObject({
    connections: 2,
  });
});

test("of a client that was never heard of nothing is said", () => {
  expect(new PresenceJudge({ clients: 1 }).judge(client)).toBeUndefined();
});

test("a tombstone lasts until notices of its time cannot come any more", () => {
  const judge = new PresenceJudge({ clients: 10 });
  judge.add(event("connect", "a", 5));
  judge.add(event("tcpclean", "a", 9));
  judge.prune(9);
  judge.add(event("connect", "a", 5));
  expect(judge.judge(client)).toMatchObject({ online: false });
  judge.prune(10);
  expect(judge.judge(client)).toBeUndefined();
});

test("an open channel is not forgotten, however many others ended since", () => {
  const judge = new PresenceJudge({ clients: 10 });
  judge.add(event("connect", "open", 1));
  for (let i = 0; i < 2_000; i++) {
    judge.add(event("connect", `c${i}`, 2));
    judge.add(event("tcpclean", `c${i}`, 3));
  }
  expect(judge.judge(client)).toEqual({ online: true, connections: 1, since: 1 });
  expect(JSON.stringify(judge.save()).length).toBeLessThan(10_000);
});

test("clients are bounded: the one heard of the longest ago is forgotten", () => {
  const judge = new PresenceJudge({ clients: 2 });
  for (const clientId of ["x", "y", "x", "z"]) {
    judge.add({ clientId, channelId: clientId, eventType: "connect", time: 1 });
  }
  expect(judge.clients).toBe(2);
  expect(judge.judge("y")).toBeUndefined();
  expect(judge.judge("x")).toMatchObject({ online: true });
});

test("a file that is not its own is refused whole", () => {
  const judge = new PresenceJudge({ clients: 2 });
  judge.add(event("connect", "a", 5));
  for (const bad of [undefined, {}, [["x"]], [["x", [["a", "b", null]]]], [[1, []]]]) {
    expect(judge.load(bad)).toBe(false);
  }
  expect(judge.judge(client)).toMatchObject({ online: true });
});

test("what is no notice is not read as one", () => {
  const good = { ...event("connect", "a", 5), clientIp: "1.2.3.4:5" };
  expect(readPresenceEvent(good)).toEqual(event("connect", "a", 5));
  for (const change of [{ time: "5" }, { eventType: "x" }, { channelId: "" }, { clientId: 1 }]) {
    expect(readPresenceEvent({ ...good, ...change })).toBeUndefined();
  }
});

test("3,000 shuffled and duplicated logs are judged like the oracle judges them", () => {
  let online = 0;
  for (let seed = 1; seed <= 3_000; seed++) online += runPresenceLog(seed).online;
  expect(online).toBeGreaterThan(1_000);
});

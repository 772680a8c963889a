/**
 * The agent as a process, on a disk whose every sync takes some milliseconds more:
 * `node slow-disk-agent.ts CONFIG MS`.
 */
import { createAgent } from "../../agent/agent.ts";
import { loadConfig } from "../../agent/config/config.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { type KeyValueOpener, openLevel } from "../../agent/store/store.ts";

const [file = "", ms = "0"] = process.argv.slice(2);
const clock = new SystemClock();
const life = new AbortController();

const openSlowly: KeyValueOpener = async (directory, options) => {
  const database = await openLevel(directory, options);
  return {
    ...database,
    batch: async (operations, { sync }) => {
      await database.batch(operations, { sync });
      if (sync) await clock.sleep(Number(ms), life.signal);
    },
  };
};

const folders = { working: process.cwd(), home: process.cwd() };
const loaded = loadConfig({ file, environment: {}, folders });
const agent = await createAgent(
  { loaded, version: "test" },
  { clock, random: new SystemRandom(), stderr: process.stderr, openDatabase: openSlowly },
);
await agent.start(life.signal);
process.once("SIGTERM", () => {
  void agent.stop(new AbortController().signal).then(() => life.abort());
});

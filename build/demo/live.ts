/** After the story: the system stays up, with a line that says how it does, until Ctrl-C. */
import { stripVTControlCharacters } from "node:util";
import { type Cast, type Scene, telemetryOf } from "./scenario.ts";

const TELEMETRY_MS = 200;
const REFRESH_MS = 1_000;
const SHOWN_PAYLOAD = 200;

export async function stayUp(scene: Scene, cast: Cast): Promise<void> {
  const { life, narrator } = scene;
  tellNext(scene, cast);
  let delivered = 0;
  cast.onArrival((topic, payload) => {
    const [, first, second] = topic.split("/");
    if (first === "demo" && second === "metrics") delivered++;
    else if (first !== "health") {
      narrator.tell("auditor", `arrived: ${shown(topic)}  ${shown(payload.toString())}`);
    }
  });
  cast.producer.stopCounting();
  cast.producer.everyMs = TELEMETRY_MS;
  cast.producer.start();
  for (;;) {
    const [atMs, before] = [performance.now(), delivered];
    await life.sleep(REFRESH_MS);
    const rate = (delivered - before) / ((performance.now() - atMs) / 1000);
    narrator.live(await statusLine(scene, cast, rate));
  }
}

function tellNext({ narrator, stage }: Scene, { device }: Cast): void {
  const name = device.slice(device.indexOf("@@@") + 3);
  const commands = [
    ["what the agent is doing", "status"],
    ["a command and its reply", `send ${name} system.info`],
    ["another one, with parameters", `send ${name} system.ping --params '{"echo":"hello"}'`],
    ["a message of yours, which shows up here", "publish room/temperature 21.5"],
  ] as const;
  narrator.say("It stays up. In another terminal:");
  narrator.say();
  for (const [what, words] of commands) {
    narrator.say(`  ${narrator.style("dim", `# ${what}`)}`);
    narrator.say(`  ${narrator.style("bold", `sh ${stage.program} ${words}`)}`);
  }
  narrator.say();
  narrator.say("That file is the holdfast of this checkout with the demo's configuration.");
  narrator.say("Ctrl-C ends everything and removes it.");
  narrator.say();
}

async function statusLine({ narrator }: Scene, { status }: Cast, rate: number): Promise<string> {
  try {
    const report = await status();
    const { state } = report.connection;
    const shownState = narrator.style(state === "online" ? "green" : "yellow", state);
    return `${shownState}, ${telemetryOf(report)} queued, ${rate.toFixed(1)} delivered/s`;
  } catch {
    return "the agent does not answer";
  }
}

/** What comes over the network may not drive the terminal. */
function shown(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be printed.
  const printable = stripVTControlCharacters(text).replace(/[\u0000-\u001f\u007f-\u009f]/g, " ");
  return printable.length > SHOWN_PAYLOAD ? `${printable.slice(0, SHOWN_PAYLOAD)}...` : printable;
}

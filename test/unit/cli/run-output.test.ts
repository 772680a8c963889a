/** What a person sees of a reply: everything that matters, and nothing that a terminal obeys. */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  contradictionText,
  finalText,
  jsonText,
  progressText,
  runJson,
  type ShownRun,
} from "../../../agent/cli/run-output.ts";
import type { Styler } from "../../../agent/cli/style.ts";
import { encodeReply, parseReply, type Reply } from "../../../agent/protocol/reply.ts";

const plain: Styler = (_, text) => text;
/** Line ends and spaces are ours; everything else that moves a cursor is not. */
const obeyed = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/u;

test("a result is shown after its status and how long it took since it was sent", () => {
  const run = ended({ status: "succeeded", result: { a: 1 } });
  expect(finalText(run, plain)).toBe(
    'succeeded after 1500 ms  GID_demo@@@gw-01  system.ping\n{\n  "a": 1\n}\n',
  );
});

test("an error is shown with its code, message and details", () => {
  const error = { code: "no_room", message: "Too large.", details: { bytes: 9 } };
  const shown = finalText(ended({ status: "failed", error }), plain);
  expect(shown).toMatch(/^failed .*\nno_room: Too large\.\n\{\n {2}"bytes": 9\n\}\n$/);
});

test("a text result keeps its lines", () => {
  const run = ended({ status: "succeeded", result: "one\ntwo\r\nthree" });
  expect(finalText(run, plain)).toMatch(/\none\ntwo\nthree\n$/);
});

test("an open run has no final text, and its JSON says what is known", () => {
  const { final: _, ...open } = ended({ status: "succeeded" });
  expect(finalText(open, plain)).toBe("");
  expect(JSON.parse(runJson(open, "sent"))).toEqual({
    run: open.id,
    device: open.device,
    command: open.command,
    state: "sent",
    sentAt: 1_000,
  });
});

test("JSON is the device's own object on one line, members unknown to us included", () => {
  const run = ended({ status: "succeeded" });
  const text = `{ "v": 1,\n "extra": true, "id": "${run.id}" }`;
  const line = runJson(
    { ...run, final: { at: 1, text, reply: reply({ status: "succeeded" }) } },
    "ended",
  );
  expect(line.split("\n")).toHaveLength(2);
  expect(JSON.parse(line)).toEqual({ v: 1, extra: true, id: run.id });
});

test("a contradiction is counted in words", () => {
  const run = ended({ status: "succeeded" });
  expect(contradictionText({ ...run, contradictionCount: 1 })).toContain("Another final reply");
  expect(contradictionText({ ...run, contradictionCount: 3 })).toContain("3 more final replies");
});

test("nothing that a device can say reaches the terminal as a control character", () => {
  const text = fc.string({ unit: "binary" });
  fc.assert(
    fc.property(text, text, text, (code, message, said) => {
      const error = { code, message, details: { said } };
      const shown = [
        finalText(ended({ status: "failed", error }), plain),
        finalText(ended({ status: "succeeded", result: said }), plain),
        finalText(ended({ status: "succeeded", result: [{ [`.${said}`]: said }] }), plain),
        progressText({ at: 1, text: "", reply: reply({ status: "running", progress: said }) }),
        jsonText({ [said]: said }),
      ].join("");
      expect(shown.replaceAll("\n", "")).not.toMatch(obeyed);
    }),
  );
});

function reply(extra: Partial<Reply> & { readonly status: Reply["status"] }): Reply {
  return { id: "01ARZ3NDEKTSV4RRFFQ69G5FAV", device: "GID_demo@@@gw-01", at: 1, ...extra };
}

function ended(extra: Partial<Reply> & { readonly status: Reply["status"] }): ShownRun {
  const bytes = encodeReply(reply(extra));
  const text = Buffer.from(bytes).toString("utf8");
  return {
    id: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    device: "GID_demo@@@gw-01",
    command: "system.ping",
    createdAt: 0,
    sentAt: 1_000,
    final: { at: 2_500, text, reply: parseReply(bytes) },
    contradictionCount: 0,
  };
}

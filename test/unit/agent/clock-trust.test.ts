import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ClockTruster, readBootId } from "../../../agent/service/service.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { tempDir } from "../../support/temp-dir.ts";

async function sources() {
  const dir = await tempDir();
  return { synchronizedFile: join(dir, "synchronized"), hardwareClock: join(dir, "rtc0") };
}

test("nobody vouched: not trusted, and asked again later, not at every call", async () => {
  const clock = new FakeClock({ wallMs: Date.UTC(2026, 5, 1) });
  const files = await sources();
  const truster = new ClockTruster({ trust: "auto", sources: files }, clock);
  expect(truster.state()).toEqual({ trusted: false, source: "none" });
  await writeFile(files.synchronizedFile, "");
  expect(truster.state().trusted).toBe(false);
  await clock.advance(5_000);
  expect(truster.state()).toEqual({ trusted: true, source: "timesync" });
});

test("a clock with a battery is trusted only after the floor", async () => {
  const clock = new FakeClock({ wallMs: 0 });
  const files = await sources();
  await mkdir(files.hardwareClock);
  const truster = new ClockTruster({ trust: "auto", sources: files }, clock);
  expect(truster.state()).toEqual({ trusted: false, source: "none" });
  clock.jumpWall(Date.UTC(2026, 5, 1));
  expect(truster.state()).toEqual({ trusted: true, source: "hardware" });
});

test("a clock that falls back behind the floor loses its trust", async () => {
  const clock = new FakeClock({ wallMs: Date.UTC(2026, 5, 1) });
  const files = await sources();
  await writeFile(files.synchronizedFile, "");
  const truster = new ClockTruster({ trust: "auto", sources: files }, clock);
  expect(truster.state().trusted).toBe(true);
  clock.jumpWall(-Date.UTC(2026, 5, 1));
  expect(truster.state().trusted).toBe(false);
});

test("an operator may vouch for a clock in any state", () => {
  const truster = new ClockTruster({ trust: "always" }, new FakeClock({ wallMs: 0 }));
  expect(truster.state()).toEqual({ trusted: true, source: "configuration" });
});

test("the boot id is the kernel's, and undefined where it is nonsense or missing", async () => {
  const dir = await tempDir();
  await writeFile(join(dir, "boot_id"), "8b1f0a52-6a3c-4c69-9d0e-1f2a3b4c5d6e\n");
  await writeFile(join(dir, "nonsense"), "hello\n");
  expect(readBootId(join(dir, "boot_id"))).toBe("8b1f0a52-6a3c-4c69-9d0e-1f2a3b4c5d6e");
  expect(readBootId(join(dir, "nonsense"))).toBeUndefined();
  expect(readBootId(join(dir, "missing"))).toBeUndefined();
});

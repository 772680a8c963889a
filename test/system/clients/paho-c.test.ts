import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { beside, foreignClientSuite } from "./suite.ts";

let folder: string | undefined;
afterAll(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

/** Compiled once, at the first use. */
function program(): string {
  if (folder === undefined) {
    folder = mkdtempSync(join(tmpdir(), "holdfast-paho-c-"));
    const flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-Wno-format-truncation"];
    const libraries = ["-lpaho-mqtt3cs", "-lcrypto"];
    const words = [...flags, "-o", join(folder, "device"), beside("device.c"), ...libraries];
    execFileSync("gcc", words, { stdio: "inherit" });
  }
  return join(folder, "device");
}

foreignClientSuite({
  name: "Paho C",
  packages: ["libpaho-mqtt-dev", "libssl-dev", "gcc", "libc6-dev"],
  command: () => [program()],
  websocket: true,
});

/** What the system tier needs of Debian, in one place. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";

interface SystemPackage {
  /** The Debian package. */
  readonly name: string;
  /** A file that it brings: there means installed. */
  readonly file: string;
  /** What is not tested without it. */
  readonly usedFor: string;
}

const systemPackages: readonly SystemPackage[] = [
  { name: "mosquitto", file: "/usr/sbin/mosquitto", usedFor: "a real broker" },
  {
    name: "python3-paho-mqtt",
    file: "/usr/lib/python3/dist-packages/paho/mqtt/client.py",
    usedFor: "a stranger's client against our service",
  },
  {
    name: "libpaho-mqtt-dev",
    file: "/usr/include/MQTTClient.h",
    usedFor: "Paho C against our service",
  },
  {
    name: "mosquitto-clients",
    file: "/usr/bin/mosquitto_pub",
    usedFor: "mosquitto_pub and mosquitto_sub against our service",
  },
  { name: "libssl-dev", file: "/usr/include/openssl/hmac.h", usedFor: "Paho C's signatures" },
  { name: "openssl", file: "/usr/bin/openssl", usedFor: "the signatures of mosquitto_pub" },
  { name: "gcc", file: "/usr/bin/gcc", usedFor: "real power cuts, Paho C" },
  { name: "libc6-dev", file: "/usr/include/stdio.h", usedFor: "real power cuts" },
  { name: "pkg-config", file: "/usr/bin/pkg-config", usedFor: "real power cuts" },
  { name: "libfuse3-dev", file: "/usr/include/fuse3/fuse.h", usedFor: "real power cuts" },
  { name: "e2fsprogs", file: "/usr/sbin/mkfs.ext4", usedFor: "real power cuts" },
  { name: "mount", file: "/usr/sbin/losetup", usedFor: "real power cuts" },
];

/** While this file says so, no package that is installed starts its service. */
const policyFile = "/usr/sbin/policy-rc.d";
const installLimitMs = 300_000;

/**
 * Installs what is missing where that is possible: as root on Debian. Gives a line for each
 * package that is still missing; the tests that need it skip themselves with the same reason.
 */
export function prepareSystemTier(): string[] {
  const missing = missingPackages();
  if (missing.length > 0) install(missing);
  return missingPackages().map(notInstalled);
}

/** For a test's skip: why the package is not there, or undefined when it is. */
export function whyMissing(name: string): string | undefined {
  const row = systemPackages.find((candidate) => candidate.name === name);
  if (!row) return `${name} is not in build/system-packages.ts`;
  return existsSync(row.file) ? undefined : notInstalled(row);
}

function missingPackages(): SystemPackage[] {
  return systemPackages.filter(({ file }) => !existsSync(file));
}

function notInstalled({ name, usedFor }: SystemPackage): string {
  const why = cannotInstall() ?? "apt-get could not install it";
  return `left out: ${usedFor}: the Debian package ${name} is not installed (${why})`;
}

function cannotInstall(): string | undefined {
  if (!existsSync("/etc/debian_version")) return "this is not Debian";
  if (process.getuid?.() !== 0) return "not root";
  return undefined;
}

function install(packages: readonly SystemPackage[]): void {
  if (cannotInstall() !== undefined) return;
  const names = packages.map(({ name }) => name);
  process.stderr.write(`installing Debian packages: ${names.join(" ")}\n`);
  withoutServices(() => {
    const options = ["-qq", "-y", "--no-install-recommends"];
    // The lists may be there already, and an update that fails must not stop the attempt.
    if (!apt(["install", ...options, ...names])) {
      apt(["update", "-qq"]);
      apt(["install", ...options, ...names]);
    }
  });
}

function apt(args: readonly string[]): boolean {
  const run = spawnSync("apt-get", ["-o", "DPkg::Lock::Timeout=120", ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["ignore", process.stderr, process.stderr],
    timeout: installLimitMs,
  });
  return run.status === 0;
}

function withoutServices(action: () => void): void {
  const before = existsSync(policyFile) ? readFileSync(policyFile) : undefined;
  writeFileSync(policyFile, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    action();
  } finally {
    if (before) writeFileSync(policyFile, before, { mode: 0o755 });
    else rmSync(policyFile, { force: true });
  }
}

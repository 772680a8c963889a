/**
 * `npm run build`: the agent as one file, dist/holdfast.cjs, with the LevelDB addon of one platform
 * beside it and the licences of what is inside.
 *
 *   node build/bundle.ts [--entry FILE] [--out DIR]
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { build, type Plugin } from "esbuild";
import { noticesOf } from "./notices.ts";

const root = dirname(import.meta.dirname);
const prebuilds = join(root, "node_modules", "classic-level", "prebuilds");

interface Target {
  readonly platform: string;
  readonly arch: string;
}

/**
 * The addon loads from beside the bundle: classic-level's own search looks into node_modules, which
 * an installed agent does not have.
 */
const addonBesideBundle: Plugin = {
  name: "addon-beside-bundle",
  setup({ onLoad }) {
    onLoad({ filter: /classic-level[\\/]binding\.js$/ }, () => ({
      loader: "js",
      contents: `
        const name = "holdfast-" + process.platform + "-" + process.arch + ".node";
        module.exports = require(require("node:path").join(__dirname, name));
      `,
    }));
  },
};

const { values } = parseArgs({ options: { entry: { type: "string" }, out: { type: "string" } } });
const outDir = values.out ?? join(root, "dist");
await bundle(values.entry ?? join(root, "agent", "main.ts"), outDir);

async function bundle(entry: string, dir: string): Promise<void> {
  const target = { platform: process.platform, arch: process.arch };
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  const outfile = join(dir, "holdfast.cjs");
  const { metafile } = await build({
    entryPoints: [entry],
    outfile,
    absWorkingDir: root,
    bundle: true,
    platform: "node",
    target: "node22",
    format: "cjs",
    minify: true,
    lineLimit: 160, // A crash prints its line; one line of a megabyte would bury the message.
    keepNames: true, // Error names are looked at, and stacks are read by people.
    legalComments: "none", // THIRD-PARTY.txt has the whole texts.
    metafile: true,
    logLevel: "warning",
    // A CommonJS file has no import.meta.
    define: {
      "import.meta.dirname": "__dirname",
      "import.meta.filename": "__filename",
      "import.meta.url": "holdfastFileUrl",
    },
    banner: { js: 'const holdfastFileUrl = require("node:url").pathToFileURL(__filename).href;' },
    plugins: [addonBesideBundle],
  });
  copyFileSync(addonOf(target), join(dir, `holdfast-${target.platform}-${target.arch}.node`));
  copyFileSync(join(root, "LICENSE"), join(dir, "LICENSE"));
  writeFileSync(join(dir, "THIRD-PARTY.txt"), noticesOf(Object.keys(metafile.inputs), root));
  for (const file of readdirSync(dir).sort()) {
    const kib = Math.ceil(statSync(join(dir, file)).size / 1024);
    process.stdout.write(`${relative(root, join(dir, file))}  ${kib} KiB\n`);
  }
}

/** The addon as classic-level ships it; on Linux the one for glibc. */
function addonOf({ platform, arch }: Target): string {
  const folder = readdirSync(prebuilds).find((name) => {
    const [os, archs = ""] = name.split("-");
    return os === platform && archs.split("+").includes(arch);
  });
  const files = folder === undefined ? [] : readdirSync(join(prebuilds, folder));
  const file = files.find((name) => !name.includes("musl")) ?? files[0];
  const path = join(prebuilds, folder ?? "", file ?? "");
  if (file === undefined || !existsSync(path)) {
    throw new Error(`classic-level brings no addon for ${platform}-${arch}.`);
  }
  return path;
}

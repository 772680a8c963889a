import { defineSubcommand, exit, flag } from "./subcommand.ts";

export const version = defineSubcommand({
  name: "version",
  summary: "Print the version.",
  examples: [{ command: "version --json", doc: "the version and the runtime, for machines" }],
  options: { json: flag("print one JSON object") },
  async run({ options }, context) {
    const facts = {
      version: context.version,
      node: process.versions.node,
      platform: process.platform,
      arch: process.arch,
    };
    const { node, platform, arch } = facts;
    context.stdout.write(
      options.json
        ? `${JSON.stringify(facts)}\n`
        : `holdfast ${facts.version} (node ${node}, ${platform}-${arch})\n`,
    );
    return exit.done;
  },
});

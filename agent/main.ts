#!/usr/bin/env node
import { runCli } from "./cli/cli.ts";
import { systemContext } from "./cli/system-context.ts";

const context = systemContext();
void runCli(process.argv.slice(2), context).then(async (status) => {
  await Promise.all([context.stdout.drained(), context.stderr.drained()]);
  process.exit(status);
});

/** Job E: kill -9 and simulated power cut, online and offline, 20 seeds each, as a table. `-- [SEEDS]` */
import { rowsOfE } from "../support/row-e/run.ts";
import { isKept, tableOf } from "../support/row-e/table.ts";

const rows = await rowsOfE(Number(process.argv[2] ?? 20));
process.stdout.write(`${tableOf(rows)}\n`);
process.exitCode = rows.every(isKept) ? 0 : 1;

// The command of tests/conformance/PROTOCOL.md: `verify BUNDLE --circuits DIR --policy FILE`, or `serve`.

import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { verify } from "./verify.ts";

const EXIT = { VALID: 0, INVALID: 1, USAGE: 2, UNDECIDED: 3 };
const { positionals: [command, bundle], values: { circuits, policy } } = parseArgs({
  allowPositionals: true, options: { circuits: { type: "string" }, policy: { type: "string" } },
});
if (command === "serve") {
  for await (const line of createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    console.log(JSON.stringify({ id: asked.id, ...(await verify(asked.bundle, asked.circuits, asked.policy)) }));
  }
} else if (command === "verify" && bundle && circuits && policy) {
  const verdict = await verify(bundle, circuits, policy);
  console.log(JSON.stringify(verdict));
  process.exitCode = EXIT[verdict.outcome];
} else {
  console.error("usage: main.ts verify BUNDLE --circuits DIR --policy FILE | main.ts serve");
  process.exitCode = EXIT.USAGE;
}

// The one encoding of a value: docs/spec/manifest.md, "Canonical JSON". Nothing here knows a type of opgate.

import canonicalize from "canonicalize";
import { sha256, toUtf8Bytes } from "ethers";

/** What a step found wrong: the message is its code, the cause is for people. */
export class Refusal extends Error {}

export function need(holds: boolean, code: string, cause?: unknown): asserts holds {
  if (!holds) throw new Refusal(code, { cause });
}

export const digest = (value: unknown): string => sha256(toUtf8Bytes(canonicalize(value)!));

const STRINGS = /"[^"\\]*(?:\\.[^"\\]*)*"/gs;

/** The value that canonical bytes hold; any other bytes are refused with a code of step 0. */
export function parse(bytes: Uint8Array): unknown {
  // strings gone, what is left is brackets, colons and numbers: enough to count before anything is parsed
  const rest = Buffer.from(bytes).toString("latin1").replace(STRINGS, "");
  let depth = 0;
  for (const [bracket] of rest.matchAll(/[[{}\]]/g)) need((depth += /[[{]/.test(bracket) ? 1 : -1) <= 16, "V0-depth");
  let text: string, value: unknown, canonical: string;
  let names = -1; // in objects that the parser made; it shows the root as a property too
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text, function (this: unknown, _name, each: unknown) {
      if (!Array.isArray(this)) names++;
      return each;
    });
    canonical = canonicalize(value)!;
  } catch (cause) {
    throw new Refusal("V0-json", { cause });
  }
  need(names === rest.split(":").length - 1, "V0-json", "a name twice");
  const numbers = rest.match(/-?\d[-+.\deE]*/g) ?? [];
  need(numbers.every((each) => /^-?\d+$/.test(each) && Number.isSafeInteger(Number(each))), "V0-json", "a number");
  need(canonical === text, "V0-canonical");
  return value;
}

// The one encoding of a value: docs/spec/manifest.md, "Canonical JSON". Nothing here knows a type of opgate.

import canonicalize from "canonicalize";

/** What a step found wrong; the message is for people. */
export class Refusal extends Error {
  readonly code: string;
  constructor(code: string, why = "") {
    super(`${code}: ${why}`);
    this.code = code;
  }
}

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|-?\d[-+.\deE]*/g;

/** The value that canonical bytes hold; any other bytes are refused with a code of step 0. */
export function parse(bytes: Uint8Array): unknown {
  if (depth(bytes) > 16) throw new Refusal("V0-depth");
  let text: string, value: unknown, canonical: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
    canonical = canonicalize(value)!;
  } catch (error) {
    throw new Refusal("V0-json", String(error));
  }
  let names = 0;
  for (const [token, colon] of text.matchAll(TOKEN)) {
    if (colon) names++;
    if (token[0] !== '"' && (/[.eE]/.test(token) || !Number.isSafeInteger(Number(token)))) throw new Refusal("V0-json", token);
  }
  if (names !== countNames(value)) throw new Refusal("V0-json", "a name twice");
  if (canonical !== text) throw new Refusal("V0-canonical");
  return value;
}

/** How deep brackets outside strings nest, without parsing what a parser could choke on. */
function depth(bytes: Uint8Array): number {
  let now = 0, most = 0, quoted = false;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (quoted && byte === 0x5c) at++;
    else if (byte === 0x22) quoted = !quoted;
    else if (!quoted && (byte === 0x7b || byte === 0x5b)) most = Math.max(most, ++now);
    else if (!quoted && (byte === 0x7d || byte === 0x5d)) now--;
  }
  return most;
}

function countNames(value: unknown): number {
  if (value === null || typeof value !== "object") return 0;
  const own = Array.isArray(value) ? 0 : Object.keys(value).length;
  return Object.values(value).reduce((sum: number, each) => sum + countNames(each), own);
}

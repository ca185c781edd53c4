// Any document, held to its struct in the specification. Scalars, and what no struct says, are written out here.

import { z } from "zod";
import { need, parse } from "./json.ts";
import { CHOICES, STRUCTS } from "./spec.ts";

/** A decoded document: held to its struct when it is read, and to nothing by the compiler. */
export type Document = any;

export const P = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const UNPRINTABLE = `0-1f 7f-a0 ad 600-605 61c 6dd 70f 890-891 8e2 1680 180e 2000-200f 2028-202f 205f-206f 3000
  d800-f8ff feff fff0-fffb 110bd 110cd 13430-1343f 1bca0-1bca3 1d173-1d17a e0000-e007f f0000-10ffff`;
const PRINTABLE = `[^${UNPRINTABLE.replace(/[\da-f]+/g, "\\u{$&}").replace(/\s+/g, "")}]`;

const string = (good: (value: string) => boolean) => z.string().refine(good, { abort: true });
const form = (pattern: RegExp) => string((value) => pattern.test(value));
const number = (most: number) => z.int().min(0).max(most);
const decimal = (least: bigint, most: bigint) => string((value) =>
  /^(0|-?[1-9]\d{0,77})$/.test(value) && least <= BigInt(value) && BigInt(value) <= most);

const SCALARS: { [kind: string]: z.ZodType } = {
  Bool: z.boolean(),
  Count: number(2 ** 53 - 1),
  Timestamp: number(2 ** 40),
  Uint256: decimal(0n, 2n ** 256n - 1n),
  FieldElement: decimal(0n, P - 1n),
  TensorInt: decimal((1n - P) / 2n, (P - 1n) / 2n),
  Measure: form(/^(0|[1-9]\d{0,17})(\.\d{0,17}[1-9])?$/),
  Text: form(new RegExp(`^${PRINTABLE}{0,256}$`, "u")),
  HexBytes: form(/^0x([\da-f]{2})*$/),
  Bytes32: form(/^0x[\da-f]{64}$/),
  Address: form(/^0x[\da-f]{40}$/),
  Signature: string((value) => {
    const [, r = "0", s = "0"] = /^0x([\da-f]{64})([\da-f]{64})1[bc]$/.exec(value) ?? [];
    const within = (half: string, most: bigint): boolean => 0n < BigInt(`0x${half}`) && BigInt(`0x${half}`) <= most;
    return within(r, ORDER - 1n) && within(s, ORDER / 2n);
  }),
};

/** What a struct asks of its fields together. */
const BESIDES: { [struct: string]: (value: Document) => boolean } = {
  ProofBundle: ({ origin, inputs, input_hash, proof, delivery, receipt, evidence }) =>
    (inputs === undefined) !== (input_hash === undefined) && proof.length <= 2 + 2 * 65_536
    && [delivery, receipt].every((part) => (part !== undefined) === (origin === "delivered"))
    && (evidence !== undefined) === (origin === "chain"),
  CircuitManifest: ({ visibility, inputs, outputs, n_instances, proof_len, value_bound }) => {
    const hashed = visibility === "hashed";
    let next = 0;
    const tile = (tensors: Document[], words?: number): boolean => tensors.every(({ shape, offset, length }) => {
      const size = shape.reduce((product: number, axis: number) => product * axis, 1), at = next;
      next += words ?? size;
      return shape.length <= 8 && size > 0 && offset === at && length === next - at;
    });
    const tiled = tile(inputs, hashed ? 1 : undefined) && (next += hashed ? 1 : 11) > 0 && tile(outputs);
    return tiled && n_instances === next + (hashed ? 11 : 0) && inputs.length > 0 && outputs.length > 0
      && !(hashed && inputs.length > 1) && proof_len > 0 && proof_len % 32 === 0 && BigInt(value_bound) >= 2n ** 24n;
  },
};

const named = z.custom<Document>((value) => // z.record would let a name `__proto__` pass
  Object.keys(value ?? {}).every((name) => /^(\*|0x[\da-f]{64})$/.test(name)));

function schema(kind: string): z.ZodType {
  if (kind.startsWith('"')) return z.literal(JSON.parse(kind));
  if (kind.endsWith("[]")) return z.array(schema(kind.slice(0, -2)));
  if (kind.startsWith("{")) return named.pipe(z.record(z.string(), schema(kind.slice(1, -1))));
  if (CHOICES.has(kind)) return z.union(CHOICES.get(kind)!.map(schema));
  if (!STRUCTS.has(kind)) return SCALARS[kind]!;
  const fields = STRUCTS.get(kind)!.map(([name, optional, inner, otherwise]) => {
    const field = schema(inner!);
    return [name!, optional ? field.optional() : otherwise ? field.prefault(JSON.parse(otherwise)) : field];
  });
  return z.strictObject(Object.fromEntries(fields)).refine(BESIDES[kind] ?? (() => true));
}

const READ = ["Policy", "ProofBundle", "CircuitManifest", "SignedRecord"];
const SCHEMAS = new Map(READ.map((kind) => [kind, schema(kind)]));

/** The document of these bytes, with the defaults of what is absent; a refusal of step 0 for anything else. */
export function decode(kind: string, bytes: Uint8Array): Document {
  const decoded = SCHEMAS.get(kind)!.safeParse(parse(bytes));
  need(decoded.success, "V0-schema", decoded.error);
  return decoded.data;
}

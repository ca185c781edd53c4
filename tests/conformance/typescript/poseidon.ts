// EZKL's hash of a tensor: docs/spec/manifest.md, "Poseidon".

import { Field } from "@noble/curves/abstract/modular.js";
import { grainGenConstants, poseidon as permutation } from "@noble/curves/abstract/poseidon.js";
import { P } from "./types.ts";

const Fp = Field(P);
const shape = { Fp, t: 2, roundsFull: 8, roundsPartial: 56, sboxPower: 5 };
const permute = permutation({ ...shape, ...grainGenConstants(shape) });

/** H(words): one word is absorbed before each permutation; the capacity starts as 2^64, nothing is padded. */
export function poseidon(words: bigint[]): bigint {
  return words.reduce(([rate, capacity], word) => permute([Fp.add(rate!, word), capacity!]), [0n, 1n << 64n])[0]!;
}

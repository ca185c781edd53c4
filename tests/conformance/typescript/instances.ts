// The words that a claim stands for: docs/spec/manifest.md, "Instance layout".

import { Field } from "@noble/curves/abstract/modular.js";
import { grainGenConstants, poseidon } from "@noble/curves/abstract/poseidon.js";
import { type Document, P } from "./documents.ts";

const Fp = Field(P);
const shape = { Fp, t: 2, roundsFull: 8, roundsPartial: 56, sboxPower: 5 };
const permute = poseidon({ ...shape, ...grainGenConstants(shape) });

/** H: a word is added before each permutation; the state begins as (0, 2^64), nothing is padded. */
const hash = (words: bigint[]): bigint =>
  words.reduce(([first, second], word) => permute([Fp.add(first!, word), second!]), [0n, 1n << 64n])[0]!;

/** The instances of a claim about a job, whose limbs are ours; neither counts nor ranges are checked. */
export function instances({ inputs, input_hash, outputs }: Document, job: string): bigint[] {
  const limbs = Array.from({ length: 11 }, (_, at) => (BigInt(job) >> BigInt(24 * at)) & 0xffffffn);
  const residues = (tensors: string[][]): bigint[] => tensors.flat().map((value) => Fp.create(BigInt(value)));
  if (inputs) return [...residues(inputs), ...limbs, ...residues(outputs)];
  return [BigInt(input_hash), hash(limbs), ...residues(outputs), ...limbs];
}

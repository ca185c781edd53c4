// Every type that a verdict reads, field by field: docs/spec/manifest.md, terms.md, bundle.md, verification.md.

import { z } from "zod";
import { Refusal } from "./json.ts";

export const P = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

const count = (most: number) => z.int().min(0).max(most);
const integer = (form: RegExp, least: bigint, most: bigint) =>
  z.string().regex(form).transform(BigInt).refine((value) => least <= value && value <= most);
const bytes = (least: number, most = least) =>
  z.string().regex(/^0x(?:[0-9a-f]{2})*$/).min(2 + 2 * least).max(2 + 2 * most);
const UNSIGNED = /^(?:0|[1-9]\d{0,77})$/, SIGNED = /^(?:0|-?[1-9]\d{0,77})$/;

const Count = count(2 ** 53 - 1), Timestamp = count(2 ** 40);
const Uint256 = integer(UNSIGNED, 0n, 2n ** 256n - 1n), FieldElement = integer(UNSIGNED, 0n, P - 1n);
const TensorInt = integer(SIGNED, -(P - 1n) / 2n, (P - 1n) / 2n);
const Measure = z.string().regex(/^(?:0|[1-9]\d{0,17})(?:\.\d{0,17}[1-9])?$/);
const UNPRINTABLE = "0-1f 7f-a0 ad 600-605 61c 6dd 70f 890-891 8e2 1680 180e 2000-200f 2028-202f 205f-206f 3000 d800-f8ff feff \
fff0-fffb 110bd 110cd 13430-1343f 1bca0-1bca3 1d173-1d17a e0000-e007f f0000-10ffff".replace(/[\da-f]+/g, "\\u{$&}").replaceAll(" ", "");
const Text = z.string().regex(new RegExp(`^[^${UNPRINTABLE}]{0,256}$`, "u"));
const Bytes32 = bytes(32), Address = bytes(20), Blob = bytes(0, 2 ** 22);
const Signature = bytes(65).refine((hex) => {
  const [r, s] = [hex.slice(2, 66), hex.slice(66, 130)].map((half) => BigInt(`0x0${half}`)) as [bigint, bigint];
  return r > 0n && r < ORDER && s > 0n && s <= ORDER / 2n && /1[bc]$/.test(hex);
});

const ProofRule = z.strictObject({
  verifier: Address, code_hash: Bytes32, n_instances: Count, proof_len: Count, input_offset: Count, input_len: Count,
  job_offset: Count, gas_cap: Count,
});
const JobTerms = z.strictObject({
  payer: Address, provider: Address, payee: Address, token: Address, amount: Uint256, circuit_id: Bytes32,
  rule: ProofRule, input_commitment: Bytes32, fund_by: Timestamp, deadline: Timestamp, salt: Bytes32,
});
const ChainEvidence = z.strictObject({
  schema: z.literal("opgate/evidence/1"), chain_id: Count, index: Count, transaction: Blob, receipt: Blob,
  receipt_proof: z.array(Blob), header: Blob, source: Text,
});
const claim = {
  schema: z.literal("opgate/bundle/1"), terms: JobTerms, circuit_id: Bytes32, outputs: z.array(z.array(TensorInt)),
  domain: z.strictObject({ name: Text, version: Text, chain_id: Count, verifying_contract: Address }),
  inputs: z.array(z.array(TensorInt)).optional(), input_hash: FieldElement.optional(), proof: bytes(0, 2 ** 16), acceptance: Signature,
};
const Receipt = z.strictObject({ engine: Text, device: Text, prove_seconds: Measure, peak_memory_bytes: Count });
export const ProofBundle = z.discriminatedUnion("origin", [
  z.strictObject({ ...claim, origin: z.literal("delivered"), delivery: Signature, receipt: Receipt }),
  z.strictObject({ ...claim, origin: z.literal("chain"), evidence: ChainEvidence }),
]).refine((bundle) => (bundle.inputs === undefined) !== (bundle.input_hash === undefined));

const dtypes = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"];
const Tensor = z.strictObject({
  name: Text, shape: z.array(Count).max(8), dtype: z.enum(dtypes), scale: Count, offset: Count, length: Count,
});
export const CircuitManifest = z.strictObject({
  schema: z.literal("opgate/circuit/1"), ezkl_version: Text, onnx_sha256: Bytes32, run_args_sha256: Bytes32,
  settings_sha256: Bytes32, vk_sha256: Bytes32, visibility: z.enum(["public", "hashed"]), n_instances: Count,
  srs: z.strictObject({ logrows: Count, sha256: Bytes32, sha256_k1: Bytes32 }), value_bound: Uint256,
  inputs: z.array(Tensor), outputs: z.array(Tensor), proof_len: Count,
  evm: z.strictObject({
    revision: Text, code_hash: Bytes32, gas: Count,
    solc: z.strictObject({ version: Text, evm_version: Text, optimizer_runs: Count, via_ir: z.boolean(), append_cbor: z.boolean() }),
  }),
}).refine(({ inputs, outputs, visibility, n_instances, proof_len, value_bound }) => {
  const hashed = visibility === "hashed";
  let next = 0;
  const placed = (tensor: z.infer<typeof Tensor>, hash: boolean): boolean => {
    const size = tensor.shape.reduce((product, axis) => product * axis, 1), at = next;
    next += hash ? 1 : size;
    return size > 0 && tensor.offset === at && tensor.length === next - at;
  };
  const good = inputs.every((tensor) => placed(tensor, hashed)) && (next += hashed ? 1 : 11) && outputs.every((tensor) => placed(tensor, false));
  return good && inputs.length > 0 && outputs.length > 0 && !(hashed && inputs.length > 1) && n_instances === next + (hashed ? 11 : 0)
    && proof_len > 0 && proof_len % 32 === 0 && value_bound >= 2n ** 24n;
});

const Range = z.strictObject({ name: Text, least: TensorInt, greatest: TensorInt });
const Cost = z.strictObject({ prove_seconds: Measure, memory_bytes: Count, pk_bytes: Count, gas: Count, code_bytes: Count });
const sample = { samples_sha256: Bytes32, samples: Count, max_error: Measure, agreement: Measure };
const record = <S extends string, F extends z.ZodRawShape>(schema: S, fields: F) =>
  z.strictObject({ schema: z.literal(schema), circuit_id: Bytes32, ...fields });
const Record = z.discriminatedUnion("schema", [
  record("opgate/fidelity/1", {
    ...sample, mean_error: Measure, domain: z.array(Range), outputs: z.array(Range), headroom_bits: Count,
    rewrites: z.array(Text), acceptance: z.strictObject(sample).optional(),
  }),
  record("opgate/cost/1", { machine: Text, predicted: Cost, measured: Cost }),
  record("opgate/rebuild/1", { onnx_sha256: Bytes32, code_hash: Bytes32, ezkl_version: Text, machine: Text, rebuilt_at: Timestamp }),
  record("opgate/compile/1", { vk_sha256: Bytes32, code_hash: Bytes32, compiled_at: Timestamp }),
  record("opgate/attestation/1", { model: Text, code_hash: Bytes32, attested_at: Timestamp }),
]);
export const SignedRecord = z.strictObject({ record: Record, signer: Address, signature: Signature });

const Rule = z.strictObject({
  assurance: z.enum(["rebuilt", "compiled", "attested", "unattested"]).default("rebuilt"),
  max_error: Measure.optional(), min_agreement: Measure.optional(), min_samples: Count.default(1),
  max_acceptance_error: Measure.optional(), min_acceptance_samples: Count.optional(),
  owners: z.array(Address).optional(), srs: z.array(z.enum(["ceremony", "development"])).optional(),
  visibility: z.array(z.enum(["public", "hashed"])).default(["public", "hashed"]), ezkl_versions: z.array(Text).default(["23.0.5"]),
});
const addresses = z.array(Address).default([]);
export const Policy = z.strictObject({
  schema: z.literal("opgate/policy/1").optional(),
  chains: z.strictObject({
    escrows: z.array(z.strictObject({ chain_id: Count, escrow: Address, token: Address, code_hash: Bytes32.optional() })),
    dev_chains: z.array(Count).default([]),
  }),
  circuits: z.record(z.string().regex(/^(?:\*|0x[0-9a-f]{64})$/), Rule).prefault({ "*": {} }),
  records: z.strictObject({ keys: addresses, owners: addresses }).prefault({}),
  providers: z.strictObject({ allowed: addresses }).prefault({}),
  amounts: z.strictObject({
    per_job: Uint256.optional(), per_provider: Uint256.optional(), per_day: Uint256.optional(),
    depths: z.array(z.strictObject({ amount: Uint256, blocks: Count })).optional(),
  }).default({}),
  opinions: z.strictObject({ required: z.array(Text).default([]) }).prefault({}),
});

/** The typed value, or the refusal of step 0. */
export const decode = <T extends z.ZodType>(type: T, value: unknown): z.infer<T> => {
  const decoded = type.safeParse(value);
  if (decoded.success) return decoded.data;
  throw new Refusal("V0-schema", z.prettifyError(decoded.error));
};

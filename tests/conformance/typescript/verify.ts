// Steps 0 to 8, written from docs/spec/verification.md alone. The first step that fails names the verdict.

import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { concat, keccak256, recoverAddress, sha256, toBeHex, toUtf8Bytes, TypedDataEncoder } from "ethers";
import canonicalize from "canonicalize";
import type { z } from "zod";
import { accepts, calldata } from "./evm.ts";
import { checkEvidence } from "./evidence.ts";
import { parse, Refusal } from "./json.ts";
import { poseidon } from "./poseidon.ts";
import { CircuitManifest, decode, P, Policy, ProofBundle, SignedRecord } from "./types.ts";

const LIMBS = 11, MAX_GAS = 12_800_000;
const CEREMONY_K1 = "0xcafb2aa72c200ddc4e28aacabb8066e829207e2484b8d17059a566232f8a297b";
const CEREMONY: { [logrows: number]: string } = {
  10: "0x9705d450e5dfd06adb673705f7bc34418ec86339203198beceb2ae7f1ffefedb",
  12: "0x28b151069f41abc121baa6d2eaa8f9e4c4d8326ddbefee2bd9c0776b80ac6fad",
  15: "0x90807800a1c3b248a452e1732c45ee5099f38b737356f5542c0584ec9c3ebb45",
  16: "0x2a1a494630e71bc026dd5c0eab4c1b9a5dbc656228c1f0d48f5dbd3909b161d3",
  17: "0x41509f380362a8d14401c5ae92073154922fe23e45459ce6f696f58607655db7",
  20: "0x54ef75911da76d7a6b7ea341998aaf66cb06c679c53e0a88a4fe070dd3add963",
};
const LEVELS = ["unattested", "attested", "compiled", "rebuilt"];
const UNDECIDED = ["V1-circuit-missing", "V3-engine", "V7-engine", "V8-missing", "V8-disagreement", "V-internal"];
const [JobTerms, Acceptance, Delivery, CircuitRecord] = [
  `JobTerms(address payer,address provider,address payee,address token,uint256 amount,bytes32 circuit_id,ProofRule rule,bytes32 input_commitment,uint256 fund_by,uint256 deadline,bytes32 salt)
   ProofRule(address verifier,bytes32 code_hash,uint256 n_instances,uint256 proof_len,uint256 input_offset,uint256 input_len,uint256 job_offset,uint256 gas_cap)`,
  "Acceptance(bytes32 job_id)",
  "Delivery(bytes32 job_id,bytes32 circuit_id,bytes32 instances_hash,bytes32 proof_hash,bytes32 receipt_hash)",
  "CircuitRecord(string schema,bytes32 circuit_id,bytes32 record_sha256)",
].map((types) => Object.fromEntries([...types.matchAll(/(\w+)\((.*)\)/g)].map(([, name, fields]) =>
  [name!, fields!.split(",").map((field) => ({ type: field.split(" ")[0]!, name: field.split(" ")[1]! }))])));

export type Verdict = { outcome: "VALID" | "INVALID" | "UNDECIDED" | "USAGE"; code: string | null };
type Bundle = z.infer<typeof ProofBundle>;
type Manifest = z.infer<typeof CircuitManifest>;
type Reader = z.infer<typeof Policy>;
type Rule = Reader["circuits"][string];
type Circuit = { id: string; manifest: Manifest; code: Uint8Array; records: ReturnType<typeof judged>[] };

const need = (holds: boolean, code: string, why = ""): void => {
  if (!holds) throw new Refusal(code, why);
};
const digest = (value: unknown): string => sha256(toUtf8Bytes(canonicalize(value)!));
const packed = (words: bigint[]): string => concat(words.map((word) => toBeHex(word, 32)));

/** The verdict on a file, against a folder of circuits and a policy file, both the reader's own. */
export async function verify(bundle: string, circuits: string, policy: string): Promise<Verdict> {
  let fault: Verdict["outcome"] = "USAGE"; // whose fault it is while a file is read
  try {
    const taken = decode(Policy, parse(read(policy, 2 ** 20)));
    fault = "INVALID";
    const raw = parse(read(bundle, 2 ** 22));
    const claim = decode(ProofBundle, raw);
    fault = "UNDECIDED";
    const circuit = load(join(circuits, claim.circuit_id));
    fault = "INVALID";
    await steps(claim, digest((raw as { receipt?: unknown }).receipt ?? null), circuit, taken);
    return { outcome: "VALID", code: null };
  } catch (error) {
    if (!(error instanceof Refusal)) console.error(error);
    const code = error instanceof Refusal ? error.code : "V-internal";
    return { outcome: UNDECIDED.includes(code) ? "UNDECIDED" : fault, code };
  }
}

/** Steps 1 to 8; step 0 is whatever it takes to have these arguments. */
async function steps(bundle: Bundle, receipt_hash: string, circuit: Circuit, policy: Reader): Promise<void> {
  const { domain, terms, circuit_id } = bundle;
  // 1 circuit
  const { manifest } = circuit;
  const rule = policy.circuits[terms.circuit_id] ?? policy.circuits["*"];
  if (rule === undefined) throw new Refusal("V1-circuit-policy");
  checkCircuit(bundle, circuit, policy, rule);
  // 2 terms
  checkTerms(bundle, manifest, policy);
  const { chain_id: chainId, verifying_contract: verifyingContract, ...named } = domain;
  const signed = (types: typeof JobTerms, message: object): string =>
    TypedDataEncoder.hash({ ...named, chainId, verifyingContract }, types!, message);
  const job_id = signed(JobTerms, terms);
  // 3 signatures
  need(signer(signed(Acceptance, { job_id }), bundle.acceptance) === terms.provider, "V3-acceptance");
  const words = claimed(bundle, job_id);
  const instances_hash = keccak256(packed(words));
  if (bundle.origin === "chain") {
    await checkEvidence(bundle.evidence, chainId, verifyingContract, job_id, instances_hash);
  } else {
    const proof_hash = keccak256(bundle.proof);
    const delivery = signed(Delivery, { job_id, circuit_id, instances_hash, proof_hash, receipt_hash });
    need(signer(delivery, bundle.delivery) === terms.provider, "V3-delivery");
  }
  // 4 fidelity
  checkFidelity(circuit, policy, rule);
  // 5 instances
  checkClaim(bundle, manifest);
  // 6 input
  const { input_offset, input_len, verifier, gas_cap } = terms.rule;
  const input = words.slice(input_offset, input_offset + input_len);
  need(keccak256(packed(input)) === terms.input_commitment, "V6-commitment");
  // 7 proof
  need(bundle.proof.length === 2 + 2 * manifest.proof_len, "V7-proof-length");
  const call = calldata(bundle.proof, words);
  need(await accepts(circuit.code, manifest.evm.revision, verifier, gas_cap, call), "V7-proof");
  // 8 opinions: this reader has none to give
  need(policy.opinions.required.length === 0, "V8-missing");
}

function read(path: string, most: number): Uint8Array {
  const file = lstatSync(path, { throwIfNoEntry: false });
  if (!file?.isFile()) throw new Refusal("V0-file");
  need(file.size <= most, "V0-size");
  return readFileSync(path);
}

function load(folder: string): Circuit {
  need(lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() ?? false, "V1-circuit-missing");
  const records = join(folder, "records");
  const names = (lstatSync(records, { throwIfNoEntry: false }) ? readdirSync(records) : []).filter((name) => name.endsWith(".json"));
  need(names.length <= 64, "V0-size");
  const bytes = read(join(folder, "manifest.json"), 2 ** 22);
  return {
    id: sha256(bytes), manifest: decode(CircuitManifest, parse(bytes)), code: read(join(folder, "verifier.bin"), 2 ** 20),
    records: names.map((name) => judgedOnce(read(join(records, name), 2 ** 18))),
  };
}

const JUDGED = new Map<string, ReturnType<typeof judged>>(); // the same records come with every bundle of a circuit
function judgedOnce(bytes: Uint8Array): ReturnType<typeof judged> {
  const name = sha256(bytes);
  if (!JUDGED.has(name)) JUDGED.set(name, judged(parse(bytes)));
  return JUDGED.get(name)!;
}

/** A record and who really signed it. */
function judged(raw: unknown) {
  const { record, signer: by, signature } = decode(SignedRecord, raw);
  const { schema, circuit_id } = record;
  const message = { schema, circuit_id, record_sha256: digest((raw as { record: unknown }).record) };
  const hash = TypedDataEncoder.hash({ name: "opgate records", version: "1" }, CircuitRecord!, message);
  return { record, by: signer(hash, signature) === by ? by : "" };
}

function checkCircuit(bundle: Bundle, circuit: Circuit, policy: Reader, rule: Rule): void {
  const { manifest, code, id } = circuit;
  need(bundle.terms.circuit_id === id && bundle.circuit_id === id, "V1-circuit-id");
  need(keccak256(code) === manifest.evm.code_hash, "V1-code-hash");
  need(code[0] !== 0xef, "V1-code-kind");
  need(rule.visibility.includes(manifest.visibility), "V1-visibility");
  need(rule.ezkl_versions.includes(manifest.ezkl_version), "V1-ezkl-version");
  const { keys, owners } = policy.records;
  const shows = (who: string[]) => circuit.records.map(({ record, by }): string => {
    if (record.circuit_id !== id || !("code_hash" in record) || record.code_hash !== manifest.evm.code_hash) return "";
    if (record.schema === "opgate/attestation/1") return who.includes(by) ? "attested" : "";
    if (!keys.includes(by)) return "";
    if (record.schema === "opgate/compile/1") return record.vk_sha256 === manifest.vk_sha256 ? "compiled" : "";
    return record.onnx_sha256 === manifest.onnx_sha256 ? "rebuilt" : "";
  });
  need(Math.max(0, ...shows(owners).map((level) => LEVELS.indexOf(level))) >= LEVELS.indexOf(rule.assurance), "V1-assurance");
  need(rule.owners === undefined || shows(rule.owners).includes("attested"), "V1-owner");
  const { logrows, sha256: file, sha256_k1 } = manifest.srs;
  const real = sha256_k1 === CEREMONY_K1 && CEREMONY[logrows] === file;
  need(rule.srs?.includes(real ? "ceremony" : "development") ?? true, "V1-srs");
  need(real || policy.chains.dev_chains.includes(bundle.domain.chain_id), "V1-srs");
}

function checkTerms({ domain, terms }: Bundle, manifest: Manifest, policy: Reader): void {
  need(domain.name === "opgate" && domain.version === "1", "V2-domain");
  const escrow = policy.chains.escrows.find(({ chain_id, escrow: address }) =>
    chain_id === domain.chain_id && address === domain.verifying_contract);
  if (escrow === undefined) throw new Refusal("V2-escrow");
  need(terms.token === escrow.token, "V2-token");
  const { allowed } = policy.providers;
  need(allowed.length === 0 || allowed.includes(terms.provider), "V2-provider");
  need(terms.amount > 0n && terms.amount <= (policy.amounts.per_job ?? terms.amount), "V2-amount");
  need(terms.fund_by < terms.deadline, "V2-times");
  need(manifest.evm.gas <= MAX_GAS, "V2-gas");
  const gas_cap = Math.ceil((manifest.evm.gas * 5) / 4 / 10_000) * 10_000;
  const shown = manifest.visibility === "public";
  const input_len = shown ? manifest.inputs.reduce((sum, { length }) => sum + length, 0) : 1;
  const { n_instances, proof_len, evm: { code_hash } } = manifest;
  const job_offset = shown ? input_len : n_instances - LIMBS;
  const derived = { code_hash, n_instances, proof_len, input_offset: 0, input_len, job_offset, gas_cap };
  need(canonicalize({ ...derived, verifier: terms.rule.verifier }) === canonicalize(terms.rule), "V2-rule");
}

function checkFidelity(circuit: Circuit, policy: Reader, rule: Rule): void {
  const { max_error, min_agreement, min_samples, max_acceptance_error: most, min_acceptance_samples: least } = rule;
  const { owners, keys } = policy.records;
  const by = (who: string[]) => circuit.records.flatMap(({ record, by: signed }) =>
    record.schema === "opgate/fidelity/1" && record.circuit_id === circuit.id && who.includes(signed) ? [record] : []);
  need((most ?? least) === undefined || by([...owners, ...keys]).some(({ acceptance: set }) => set && set.samples >= (least ?? 1)
    && (most === undefined || decimal(set.max_error) <= decimal(most))), "V4-acceptance");
  if (max_error === undefined && min_agreement === undefined) return;
  const certificates = by(owners);
  need(certificates.length > 0, "V4-certificate");
  need(certificates.some((each) => each.samples >= min_samples
    && (max_error === undefined || decimal(each.max_error) <= decimal(max_error))
    && (min_agreement === undefined || decimal(each.agreement) >= decimal(min_agreement))), "V4-fidelity");
}

function checkClaim({ inputs, outputs }: Bundle, manifest: Manifest): void {
  need((inputs !== undefined) === (manifest.visibility === "public"), "V5-visibility");
  const bound = manifest.value_bound;
  for (const [tensors, specs] of [[inputs ?? [], inputs ? manifest.inputs : []], [outputs, manifest.outputs]] as const) {
    need(tensors.length === specs.length, "V5-instance-count");
    tensors.forEach((values, at) => {
      need(values.length === specs[at]!.length, "V5-instance-count");
      need(values.every((value) => -bound <= value && value <= bound), "V5-range");
    });
  }
}

/** The instance vector that the claim implies; the job's limbs are ours. */
function claimed({ inputs, input_hash, outputs }: Bundle, job: string): bigint[] {
  const limbs = Array.from({ length: LIMBS }, (_, at) => (BigInt(job) >> BigInt(24 * at)) & 0xffffffn);
  const residues = (tensors: bigint[][]): bigint[] => tensors.flat().map((value) => ((value % P) + P) % P);
  if (inputs) return [...residues(inputs), ...limbs, ...residues(outputs)];
  return [input_hash!, poseidon(limbs), ...residues(outputs), ...limbs];
}

function signer(hash: string, signature: string): string {
  try {
    return recoverAddress(hash, signature).toLowerCase();
  } catch {
    return "nobody";
  }
}

function decimal(measure: string): bigint {
  const [whole, part = ""] = measure.split(".");
  return BigInt(whole + part.padEnd(18, "0"));
}

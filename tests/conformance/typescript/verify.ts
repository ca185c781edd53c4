// Steps 0 to 8, written from docs/spec/verification.md alone. The first step that fails names the verdict.

import { lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import canonicalize from "canonicalize";
import { keccak256, recoverAddress, sha256, TypedDataEncoder } from "ethers";
import { decode, type Document } from "./documents.ts";
import { checkEvidence } from "./evidence.ts";
import { accepts, packed } from "./evm.ts";
import { instances } from "./instances.ts";
import { digest, need, Refusal } from "./json.ts";
import { CEREMONY, SIGNED } from "./spec.ts";

export type Verdict = { outcome: "VALID" | "INVALID" | "UNDECIDED" | "USAGE"; code: string | null };
type Circuit = { id: string; manifest: Document; code: Uint8Array; records: Document[] };

const LEVELS = ["unattested", "attested", "compiled", "rebuilt"];
const UNDECIDED = ["V1-circuit-missing", "V8-missing", "V-internal"];

/** The verdict on a file, against a folder of circuits and a policy file, both the reader's own. */
export async function verify(bundlePath: string, circuits: string, policyPath: string): Promise<Verdict> {
  let fault: Verdict["outcome"] = "USAGE"; // whose fault it is while a file is read
  try {
    const policy = decode("Policy", read(policyPath, 2 ** 20));
    fault = "INVALID";
    const bytes = read(bundlePath, 2 ** 22);
    need(bytes.filter((byte) => byte === 0x2c).length <= 16_384, "V0-size");
    const bundle = decode("ProofBundle", bytes);
    fault = "UNDECIDED";
    const circuit = load(join(circuits, bundle.circuit_id));
    fault = "INVALID";
    await steps(bundle, circuit, policy);
    return { outcome: "VALID", code: null };
  } catch (error) {
    const code = error instanceof Refusal ? error.message : "V-internal";
    return { outcome: UNDECIDED.includes(code) ? "UNDECIDED" : fault, code };
  }
}

function read(path: string, most: number): Uint8Array {
  const file = lstatSync(path, { throwIfNoEntry: false });
  if (!file?.isFile()) throw new Refusal("V0-file");
  need(file.size <= most, "V0-size");
  return readFileSync(path);
}

/** The circuit in a folder, with those records that their signer signed. */
function load(folder: string): Circuit {
  const kept = (path: string) => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  need(kept(folder), "V1-circuit-missing");
  const below = join(folder, "records");
  const names = kept(below) ? readdirSync(below).filter((name) => name.endsWith(".json")) : [];
  need(names.length <= 64, "V0-size");
  const bytes = read(join(folder, "manifest.json"), 2 ** 22), code = read(join(folder, "verifier.bin"), 2 ** 20);
  const records = names.map((name) => decode("SignedRecord", read(join(below, name), 2 ** 18)));
  const signed = records.filter(({ record, signer, signature }) => {
    const message = { schema: record.schema, circuit_id: record.circuit_id, record_sha256: digest(record) };
    return signer === signerOf("CircuitRecord", { name: "opgate records", version: "1" }, message, signature);
  });
  return { id: sha256(bytes), manifest: decode("CircuitManifest", bytes), code, records: signed };
}

/** The EIP-712 digest of a message of one of the specification's types. */
function signingDigest(type: string, domain: Document, message: object): string {
  const { chain_id: chainId, verifying_contract: verifyingContract, ...named } = domain;
  return TypedDataEncoder.hash({ ...named, chainId, verifyingContract }, SIGNED.get(type)!, message);
}

function signerOf(type: string, domain: Document, message: object, signature: string): string {
  try {
    return recoverAddress(signingDigest(type, domain, message), signature).toLowerCase();
  } catch {
    return "nobody"; // r is no point of the curve
  }
}

/** What these signers say of the circuit in records of one schema. */
const said = ({ id, records }: Circuit, schema: string, signers: string[]): Document[] =>
  records.filter(({ record, signer }) => record.schema === `opgate/${schema}/1` && record.circuit_id === id
    && signers.includes(signer)).map(({ record }) => record);

/** Steps 1 to 8; step 0 is whatever it takes to have these arguments. */
async function steps(bundle: Document, circuit: Circuit, policy: Document): Promise<void> {
  const { domain, terms, circuit_id, proof } = bundle, { manifest } = circuit;
  // 1 circuit
  const rule = policy.circuits[terms.circuit_id] ?? policy.circuits["*"];
  need(rule !== undefined, "V1-circuit-policy");
  checkCircuit(bundle, circuit, policy, rule);
  // 2 terms
  checkTerms(bundle, manifest, policy);
  // 3 signatures
  const job_id = signingDigest("JobTerms", domain, terms);
  need(signerOf("Acceptance", domain, { job_id }, bundle.acceptance) === terms.provider, "V3-acceptance");
  const words = instances(bundle, job_id), instances_hash = keccak256(packed(words));
  if (bundle.origin === "chain") {
    await checkEvidence(bundle.evidence, domain, job_id, instances_hash);
  } else {
    const hashes = { instances_hash, proof_hash: keccak256(proof), receipt_hash: digest(bundle.receipt) };
    const signer = signerOf("Delivery", domain, { job_id, circuit_id, ...hashes }, bundle.delivery);
    need(signer === terms.provider, "V3-delivery");
  }
  // 4 fidelity
  checkFidelity(circuit, policy.records, rule);
  // 5 instances
  checkClaim(bundle, manifest);
  // 6 input
  const { input_offset, input_len } = terms.rule;
  const input = words.slice(input_offset, input_offset + input_len);
  need(keccak256(packed(input)) === terms.input_commitment, "V6-commitment");
  // 7 proof
  need(proof.length === 2 + 2 * manifest.proof_len, "V7-proof-length");
  need(await accepts(circuit.code, manifest.evm.revision, terms.rule, proof, words), "V7-proof");
  // 8 opinions: this reader has none to give
  need(policy.opinions.required.length === 0, "V8-missing");
}

function checkCircuit(bundle: Document, circuit: Circuit, policy: Document, rule: Document): void {
  const { domain, terms, circuit_id } = bundle, { id, code, manifest } = circuit;
  const { evm: { code_hash }, srs, vk_sha256, onnx_sha256 } = manifest;
  need(terms.circuit_id === id && circuit_id === id, "V1-circuit-id");
  need(keccak256(code) === code_hash, "V1-code-hash");
  need(code[0] !== 0xef, "V1-code-kind");
  need(rule.visibility.includes(manifest.visibility), "V1-visibility");
  need(rule.ezkl_versions.includes(manifest.ezkl_version), "V1-ezkl-version");
  const shown = (schema: string, signers: string[], about: object): boolean => said(circuit, schema, signers).some(
    (record) => Object.entries({ code_hash, ...about }).every(([name, value]) => record[name] === value));
  const { keys, owners } = policy.records;
  const level = shown("rebuild", keys, { onnx_sha256 }) ? "rebuilt" : shown("compile", keys, { vk_sha256 }) ? "compiled"
    : shown("attestation", owners, {}) ? "attested" : "unattested";
  need(LEVELS.indexOf(level) >= LEVELS.indexOf(rule.assurance), "V1-assurance");
  need(rule.owners === undefined || shown("attestation", rule.owners, {}), "V1-owner");
  const real = CEREMONY.get(srs.logrows) === srs.sha256 && CEREMONY.get(1) === srs.sha256_k1;
  need(rule.srs?.includes(real ? "ceremony" : "development") ?? true, "V1-srs");
  need(real || policy.chains.dev_chains.includes(domain.chain_id), "V1-srs");
}

function checkTerms({ domain, terms }: Document, manifest: Document, policy: Document): void {
  need(domain.name === "opgate" && domain.version === "1", "V2-domain");
  const escrow = policy.chains.escrows.find((each: Document) =>
    each.chain_id === domain.chain_id && each.escrow === domain.verifying_contract);
  need(escrow !== undefined, "V2-escrow");
  need(terms.token === escrow.token, "V2-token");
  const { providers: { allowed }, amounts: { per_job = terms.amount } } = policy;
  need(allowed.length === 0 || allowed.includes(terms.provider), "V2-provider");
  need(terms.amount !== "0" && BigInt(terms.amount) <= BigInt(per_job), "V2-amount");
  need(terms.fund_by < terms.deadline, "V2-times");
  const { inputs, n_instances, proof_len, evm: { code_hash, gas } } = manifest, open = manifest.visibility === "public";
  need(gas <= 12_800_000, "V2-gas");
  const input_len = open ? inputs.reduce((sum: number, { length }: Document) => sum + length, 0) : 1;
  const derived = {
    verifier: terms.rule.verifier, code_hash, n_instances, proof_len, input_offset: 0, input_len,
    job_offset: open ? input_len : n_instances - 11, gas_cap: Math.ceil((gas * 5) / 4 / 10_000) * 10_000,
  };
  need(canonicalize(derived) === canonicalize(terms.rule), "V2-rule");
}

function checkFidelity(circuit: Circuit, { owners, keys }: Document, rule: Document): void {
  const { max_error, min_agreement, max_acceptance_error, min_acceptance_samples } = rule;
  const sets = said(circuit, "fidelity", [...owners, ...keys]).map(({ acceptance }) => acceptance);
  need((max_acceptance_error ?? min_acceptance_samples) === undefined || sets.some((set) => set
    && set.samples >= (min_acceptance_samples || 1) && atMost(set.max_error, max_acceptance_error)), "V4-acceptance");
  if ((max_error ?? min_agreement) === undefined) return;
  const certificates = said(circuit, "fidelity", owners);
  need(certificates.length > 0, "V4-certificate");
  need(certificates.some((each) => each.samples >= rule.min_samples
    && atMost(each.max_error, max_error) && atMost(min_agreement, each.agreement)), "V4-fidelity");
}

/** Whether one measure is at most the other; a limit that is not asked for holds. */
function atMost(...measures: (string | undefined)[]): boolean {
  const [lesser, greater] = measures.map((measure) => {
    const [whole, part = ""] = (measure ?? "0").split(".");
    return BigInt(whole + part.padEnd(18, "0"));
  });
  return measures.includes(undefined) || lesser! <= greater!;
}

function checkClaim({ inputs, outputs }: Document, { visibility, value_bound, ...stated }: Document): void {
  need((inputs !== undefined) === (visibility === "public"), "V5-visibility");
  const bound = BigInt(value_bound);
  for (const [tensors, specs] of [[inputs ?? [], inputs ? stated.inputs : []], [outputs, stated.outputs]]) {
    need(tensors.length === specs.length, "V5-instance-count");
    tensors.forEach((values: string[], at: number) => {
      need(values.length === specs[at].length, "V5-instance-count");
      need(values.every((value) => -bound <= BigInt(value) && BigInt(value) <= bound), "V5-range");
    });
  }
}

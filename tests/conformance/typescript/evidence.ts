// Chain evidence: one transaction and its receipt under one block header. docs/spec/bundle.md, "ChainEvidence".

import { createMerkleProof, createMPTFromProof, updateMPTFromMerkleProof } from "@ethereumjs/mpt";
import { RLP } from "@ethereumjs/rlp";
import { getBytes, hexlify, id } from "ethers";
import type { z } from "zod";
import { Refusal } from "./json.ts";
import type { ProofBundle } from "./types.ts";

type Evidence = Extract<z.infer<typeof ProofBundle>, { origin: "chain" }>["evidence"];
type Nested = Uint8Array | Nested[];
const RELEASED = id("Released(bytes32,address,bytes32)");

/** That `escrow` logged the release of `job` for `instances` in a transaction that succeeded. */
export async function checkEvidence(evidence: Evidence, chain: number, escrow: string, job: string, instances: string) {
  const header = list(evidence.header, "V3-evidence-header");
  if (header.length < 15) throw new Refusal("V3-evidence-header");
  const key = RLP.encode(evidence.index);
  const proof = evidence.receipt_proof.map((node) => getBytes(node));
  const receipt = await proved(proof, header[5] as Uint8Array, key);
  const transaction = await proved(proof, header[4] as Uint8Array, key);
  if (receipt.nodes.concat(transaction.nodes).join() !== evidence.receipt_proof.join()) throw new Refusal("V3-evidence-proof");
  if (receipt.value !== evidence.receipt) throw new Refusal("V3-evidence-receipt");
  if (transaction.value !== evidence.transaction) throw new Refusal("V3-evidence-transaction");
  if (evidence.chain_id !== chain) throw new Refusal("V3-evidence-chain");
  const typed = parseInt(receipt.value.slice(2, 4), 16) < 0x80; // EIP-2718
  const [status, , , logs, ...rest] = list(typed ? `0x${receipt.value.slice(4)}` : receipt.value, "V3-evidence-receipt");
  if (!Array.isArray(logs) || rest.length) throw new Refusal("V3-evidence-receipt");
  if (hexlify(status as Uint8Array) !== "0x01") throw new Refusal("V3-evidence-status");
  const released = (logs as [Uint8Array, Uint8Array[], Uint8Array][]).filter(([address, topics]) =>
    hexlify(address) === escrow && topics.length === 3 && hexlify(topics[0]!) === RELEASED && hexlify(topics[1]!) === job);
  if (released.length === 0) throw new Refusal("V3-evidence-released");
  if (!released.some(([, , content]) => hexlify(content) === instances)) throw new Refusal("V3-evidence-event");
}

function list(encoding: string, code: string): Nested[] {
  try {
    const decoded = RLP.decode(encoding) as Nested;
    if (Array.isArray(decoded) && hexlify(RLP.encode(decoded)) === encoding) return decoded;
  } catch {
    // refused below, as what is no list
  }
  throw new Refusal(code);
}

/** The value at `key` under `root`, and exactly the nodes that show it. */
async function proved(nodes: Uint8Array[], root: Uint8Array, key: Uint8Array): Promise<{ value: string; nodes: string[] }> {
  try {
    const trie = await createMPTFromProof(nodes);
    await updateMPTFromMerkleProof(trie, nodes);
    trie.root(root);
    return { value: hexlify((await trie.get(key))!), nodes: (await createMerkleProof(trie, key)).map((node) => hexlify(node)) };
  } catch (error) {
    throw new Refusal("V3-evidence-proof", String(error));
  }
}

// Chain evidence: one transaction and its receipt under one block header. docs/spec/bundle.md, "ChainEvidence".

import { createMerkleProof, createMPTFromProof } from "@ethereumjs/mpt";
import { RLP } from "@ethereumjs/rlp";
import { getBytes, hexlify, id } from "ethers";
import type { z } from "zod";
import { Refusal } from "./json.ts";
import type { ProofBundle } from "./types.ts";

type Evidence = Extract<z.infer<typeof ProofBundle>, { origin: "chain" }>["evidence"];
type Nested = Uint8Array | Nested[];
const RELEASED = id("Released(bytes32,address,bytes32)");
const SHAPES: { [type: number]: [number, number, number, number] } = { // fields; where chain id, receiver, calldata stand
  0: [9, 6, 3, 5], 1: [11, 0, 4, 6], 2: [12, 0, 5, 7], 3: [14, 0, 5, 7], 4: [13, 0, 5, 7],
};
const need = (holds: boolean, word: string): void => {
  if (!holds) throw new Refusal(`V3-evidence-${word}`);
};

/** That `escrow` logged the release of `job` for `instances` in a transaction that succeeded. */
export async function checkEvidence(evidence: Evidence, chain: number, escrow: string, job: string, instances: string) {
  need(evidence.header.length <= 2 + 2 * 8192, "header");
  const header = list(evidence.header, "header") as Uint8Array[];
  need(header.length >= 15 && header.length <= 40 && header.every((item) => item instanceof Uint8Array), "header");
  need(header[4]!.length === 32 && header[5]!.length === 32 && header[8]!.length <= 8 && header[11]!.length <= 8, "header");
  const nodes = evidence.receipt_proof;
  need(nodes.length > 0 && nodes.length <= 64, "proof");
  const key = RLP.encode(evidence.index);
  const receipt = await walk(nodes, header[5]!, key, "receipt");
  const transaction = await walk(nodes.slice(receipt.used), header[4]!, key, "transaction");
  need(receipt.used + transaction.used === nodes.length, "proof");
  need(receipt.value === evidence.receipt, "receipt");
  need(transaction.value === evidence.transaction, "transaction");
  const type = typeOf(transaction.value), shape = SHAPES[type];
  if (shape === undefined) throw new Refusal("V3-evidence-transaction");
  const sent = list(type ? `0x${transaction.value.slice(4)}` : transaction.value, "transaction") as Uint8Array[];
  const [count, idAt, toAt, callAt] = shape;
  need(sent.length === count && [idAt, toAt, callAt].every((at) => sent[at] instanceof Uint8Array), "transaction");
  need([0, 20].includes(sent[toAt]!.length), "transaction");
  const stated = BigInt(hexlify(sent[idAt]!).replace(/^0x$/, "0x0"));
  const chainId = type ? stated : stated > 36n ? (stated - 35n) / 2n : 0n;
  need(chainId === BigInt(evidence.chain_id), "chain");
  need(typeOf(receipt.value) === type, "receipt");
  const [status, , , logs, ...rest] = list(type ? `0x${receipt.value.slice(4)}` : receipt.value, "receipt");
  need(Array.isArray(logs) && rest.length === 0, "receipt");
  need(status instanceof Uint8Array && hexlify(status) === "0x01", "status");
  const found = (logs as [Uint8Array, Uint8Array[], Uint8Array][]).map(([address, topics, content]) =>
    [address, ...topics, content].map((part) => hexlify(part)));
  need(evidence.chain_id === chain && found.some((log) =>
    log[0] === escrow && log[1] === RELEASED && log[2] === job && log.at(-1) === instances), "released");
}

const typeOf = (encoding: string): number => {
  const first = parseInt(encoding.slice(2, 4), 16);
  return first < 0xc0 ? first : 0;
};

function list(encoding: string, word: string): Nested[] {
  try {
    const decoded = RLP.decode(encoding) as Nested;
    if (Array.isArray(decoded) && hexlify(RLP.encode(decoded)) === encoding) return decoded;
  } catch {
    // refused below, as what is no list
  }
  throw new Refusal(`V3-evidence-${word}`);
}

/** The value at `key` under `root`, and how many of the nodes, from the first on, show it. */
async function walk(nodes: string[], root: Uint8Array, key: Uint8Array, word: string) {
  let value: Uint8Array | null = null, path: string[] = [];
  try {
    const trie = await createMPTFromProof(nodes.map((node) => getBytes(node)));
    trie.root(root);
    value = await trie.get(key, true);
    path = (await createMerkleProof(trie, key)).map((node) => hexlify(node));
  } catch {
    // refused below, as a walk that leads nowhere
  }
  if (!value?.length) throw new Refusal(`V3-evidence-${word}`);
  need(path.every((node, at) => node === nodes[at]), "proof");
  return { value: hexlify(value), used: path.length };
}

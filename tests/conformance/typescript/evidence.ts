// Chain evidence: one transaction and its receipt under one block header. docs/spec/bundle.md, "ChainEvidence".

import { createMerkleProof, createMPTFromProof } from "@ethereumjs/mpt";
import { decodeRlp, encodeRlp, getBytes, hexlify, id, type RlpStructuredData, toBeArray } from "ethers";
import { z } from "zod";
import type { Document } from "./documents.ts";
import { need, Refusal } from "./json.ts";

// RLP as shapes: byte strings are hex
const sized = (least: number, most: number) => z.string().min(2 + 2 * least).max(2 + 2 * most);
const some = z.string(), any = z.unknown(), root = sized(32, 32), number = sized(0, 8);
const to = z.union([sized(0, 0), sized(20, 20)]);
const HEADER = z.tuple(
  [some, some, some, some, root, root, some, some, number, some, some, number, some, some, some], some);
const TRANSACTIONS: { [type: number]: z.ZodType<Document> } = {
  0: z.tuple([any, any, any, to, any, some, some, any, any]),
  1: z.tuple([some, any, any, any, to, any, some, any, any, any, any]),
  2: z.tuple([some, any, any, any, any, to, any, some, any, any, any, any]),
  3: z.tuple([some, any, any, any, any, to, any, some, any, any, any, any, any, any]),
  4: z.tuple([some, any, any, any, any, to, any, some, any, any, any, any, any]),
};
const RECEIPT = z.tuple([any, any, any, z.array(any)]);
const LOGS = z.array(z.tuple([sized(20, 20), z.array(sized(32, 32)), some]));

/** That the domain's escrow logged the release of a job for these instances, in a transaction that succeeded. */
export async function checkEvidence(evidence: Document, domain: Document, job: string, instances: string) {
  need(evidence.header.length <= 2 + 2 * 8192, "V3-evidence-header");
  const header = shaped(HEADER, evidence.header, "header");
  need(header.length <= 40, "V3-evidence-header");
  const { receipt_proof: nodes, index } = evidence;
  need(nodes.length > 0 && nodes.length <= 64, "V3-evidence-proof");
  const receipt = await walk(nodes, header[5], index, "receipt");
  const transaction = await walk(nodes.slice(receipt.used), header[4], index, "transaction");
  need(receipt.used + transaction.used === nodes.length, "V3-evidence-proof");
  need(receipt.value === evidence.receipt, "V3-evidence-receipt");
  need(transaction.value === evidence.transaction, "V3-evidence-transaction");
  const [type, content] = opened(transaction.value);
  const sent = shaped(TRANSACTIONS[type] ?? z.never(), content, "transaction");
  const stated = BigInt(`0x0${sent[type ? 0 : 6].slice(2)}`);
  const chain = type ? stated : stated > 36n ? (stated - 35n) / 2n : 0n;
  need(chain === BigInt(evidence.chain_id), "V3-evidence-chain");
  const [receiptType, outcome] = opened(receipt.value);
  need(receiptType === type, "V3-evidence-receipt");
  const [status, , , logged] = shaped(RECEIPT, outcome, "receipt");
  need(status === "0x01", "V3-evidence-status");
  const released = [domain.verifying_contract, id("Released(bytes32,address,bytes32)"), job, instances].join();
  const found = shaped(LOGS, logged, "receipt").some(([by, [event, subject], shown]) =>
    [by, event, subject, shown].join() === released);
  need(found && evidence.chain_id === domain.chain_id, "V3-evidence-released");
}

/** Type and content (EIP-2718); a list is a legacy one, of type 0. */
function opened(encoding: string): [number, string] {
  const first = parseInt(encoding.slice(2, 4), 16);
  return first >= 0xc0 ? [0, encoding] : [first || NaN, `0x${encoding.slice(4)}`];
}

/** The items of that shape; RLP in its one encoding, or what was decoded already. */
function shaped<T extends z.ZodType>(shape: T, content: unknown, word: string): z.infer<T> {
  try {
    const items = typeof content === "string" ? decodeRlp(content) : content;
    const again = typeof content === "string" ? encodeRlp(items as RlpStructuredData) : content;
    const [open, count] = extent(items);
    if (again === content && open <= 16 && count <= 16_384) return shape.parse(items);
  } catch {
    // refused below, as what is no such thing
  }
  throw new Refusal(`V3-evidence-${word}`);
}

/** How many lists are open at once, and how many items there are. */
const extent = (item: unknown): [number, number] => Array.isArray(item)
  ? item.map(extent).reduce(([open, count], [o, c]) => [Math.max(open, o + 1), count + c], [1, 1]) : [0, 1];

/** The value at an index under a root, and how many of the nodes, from the first on, show it. */
async function walk(nodes: string[], root: string, index: number, word: string) {
  const key = getBytes(encodeRlp(toBeArray(index)));
  const trie = await createMPTFromProof(nodes.map((node) => getBytes(node))).catch(() => undefined);
  trie?.root(getBytes(root));
  const value = await trie?.get(key, true).catch(() => null);
  if (!value?.length) throw new Refusal(`V3-evidence-${word}`);
  const path = (await createMerkleProof(trie!, key)).map((node) => hexlify(node));
  need(path.every((node, at) => node === nodes[at]), "V3-evidence-proof");
  return { value: hexlify(value), used: path.length };
}

// The pinned code, called as the escrow calls it: docs/spec/verification.md step 7, terms.md "Calldata".

import { Common, Hardfork, Mainnet } from "@ethereumjs/common";
import { createEVM, RustBN254 } from "@ethereumjs/evm";
import { createAddressFromString } from "@ethereumjs/util";
import { concat, getBytes, hexlify, toBeHex } from "ethers";
import { initRustBN } from "rustbn-wasm";
import { Refusal } from "./json.ts";

const REVISIONS: { [name: string]: Hardfork } = { SHANGHAI: Hardfork.Shanghai, CANCUN: Hardfork.Cancun, PRAGUE: Hardfork.Prague };
const SELECTOR = "0x1e8e1e13";
const curve = new RustBN254(await initRustBN());

const word = (value: bigint | number): string => toBeHex(value, 32);

/** The one ABI encoding of verifyProof(proof, instances). */
export function calldata(proof: string, words: bigint[]): Uint8Array {
  const length = proof.length / 2 - 1;
  return getBytes(concat([SELECTOR, word(64), word(96 + length), word(length), proof, word(words.length), ...words.map(word)]));
}

/** Whether the code answers exactly 32 bytes that are 1, statically and under the gas cap. */
export async function accepts(
  code: Uint8Array, revision: string, verifier: string, gas: number, input: Uint8Array,
): Promise<boolean> {
  const hardfork = REVISIONS[revision];
  if (hardfork === undefined) throw new Refusal("V7-revision", revision);
  const evm = await createEVM({ common: new Common({ chain: Mainnet, hardfork }), bn254: curve });
  const to = createAddressFromString(verifier);
  await evm.stateManager.putCode(to, code);
  const { execResult } = await evm.runCall({ to, data: input, gasLimit: BigInt(gas), isStatic: true });
  return execResult.exceptionError === undefined && hexlify(execResult.returnValue) === word(1);
}

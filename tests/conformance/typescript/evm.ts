// The pinned code, called as the escrow calls it: docs/spec/verification.md step 7, terms.md "Calldata".

import { Common, Hardfork, Mainnet } from "@ethereumjs/common";
import { createEVM, RustBN254 } from "@ethereumjs/evm";
import { createAddressFromString } from "@ethereumjs/util";
import { concat, getBytes, hexlify, toBeHex } from "ethers";
import { initRustBN } from "rustbn-wasm";
import { need } from "./json.ts";

const { Shanghai, Cancun, Prague } = Hardfork;
const REVISIONS = new Map([["SHANGHAI", Shanghai], ["CANCUN", Cancun], ["PRAGUE", Prague]]);
const curve = new RustBN254(await initRustBN());

export const packed = (words: (bigint | number)[]): string => concat(words.map((word) => toBeHex(word, 32)));

/** Whether the code answers exactly 32 bytes that are 1, in a static call under the rule's gas cap. */
export async function accepts(code: Uint8Array, revision: string, rule: any, proof: string, words: bigint[]) {
  const hardfork = REVISIONS.get(revision);
  need(hardfork !== undefined, "V7-revision", revision);
  const length = proof.length / 2 - 1;
  const data = getBytes(concat(
    ["0x1e8e1e13", packed([64, 96 + length, length]), proof, packed([words.length, ...words])]));
  need(data.length <= 2 ** 18, "V7-size");
  const evm = await createEVM({ common: new Common({ chain: Mainnet, hardfork }), bn254: curve });
  const to = createAddressFromString(rule.verifier);
  await evm.stateManager.putCode(to, code);
  const { execResult } = await evm.runCall({ to, data, gasLimit: BigInt(rule.gas_cap), isStatic: true });
  return execResult.exceptionError === undefined && hexlify(execResult.returnValue) === packed([1]);
}

// What the pages of docs/spec say in a form that a machine can read: structs, what is signed, the ceremony's digests.

import { readFileSync } from "node:fs";

const PAGES = ["manifest", "terms"].map((page) =>
  readFileSync(new URL(`../../../docs/spec/${page}.md`, import.meta.url), "utf8")).join("\n");
const found = (pattern: RegExp, text = PAGES): string[][] =>
  [...text.matchAll(pattern)].map((match) => match.slice(1).map((part) => part ?? ""));

/** Kinds that are one of several: `Name = "a" | "b"`. */
export const CHOICES = new Map(found(/^(\w+) = (.+(?:\n .+)*)/gm).map(([name, kinds]) =>
  [name!, kinds!.split(/\s*\|\s*/)]));

/** Structs and their fields: `name: Kind`, `name?: Kind`, `name: Kind = default`. */
export const STRUCTS = new Map(found(/^(\w+)\n((?: {2}\w+\??: .+\n)+)/gm).map(([name, lines]) =>
  [name!, found(/(\w+)(\??): (\S+?)(?: = (\S+?))?,?\s/g, lines)]));

/** What is signed, by its first type: `Name(type field,...)Other(...)`, as EIP-712 libraries take it. */
export const SIGNED = new Map(found(/((?:\w+\((?:\w+ \w+,?)+\))+)/g).map(([text]) =>
  [text!.split("(")[0]!, Object.fromEntries(found(/(\w+)\((.*?)\)/g, text).map(([name, fields]) =>
    [name!, found(/(\w+) (\w+)/g, fields).map(([type, field]) => ({ type: type!, name: field! }))]))]));

/** sha256 of the ceremony's file, by logrows. */
export const CEREMONY = new Map(found(/^\| (\d+) \| `(0x\w{64})` \|$/gm).map(([k, sha256]) => [Number(k), sha256!]));

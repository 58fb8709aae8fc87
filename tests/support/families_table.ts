/** The README's table of families, made of their data. */
import type { Family } from "../../engine/model/family.ts";
import { FAMILIES } from "../../engine/model/families/mod.ts";

/** What is special where a family says something of a field. */
const SPECIAL: readonly (readonly [says: (family: Family) => unknown, words: string])[] = [
  [({ normKind }) => normKind === "layer", "LayerNorm"],
  [({ weightlessNorms }) => weightlessNorms, "norms without weights"],
  [({ norms }) => hasNormsAfter(norms), "norms behind both halves of a block"],
  [({ parallel }) => parallel, "attention and FFN side by side"],
  [({ qkNorm }) => qkNorm, "norms of queries and keys"],
  [({ embedding }) => embedding, "an embedding that is scaled, normed or has learned positions"],
  [({ rope }) => rope === false, "no RoPE"],
  [({ alibi }) => alibi, "ALiBi"],
  [({ unturned }) => unturned, "layers without RoPE"],
  [({ windowRope }) => windowRope, "RoPE of its own in layers with a window"],
  [({ window }) => window?.kind === "chunk", "chunks"],
  [({ window }) => window && window.kind !== "chunk", "windows"],
  [({ attentionCap, logitCap }) => attentionCap || logitCap, "soft caps"],
  [({ sinks }) => sinks, "sinks"],
  [({ qkvLimit }) => qkvLimit, "limited queries, keys and values"],
  [({ queryScaling }) => queryScaling, "queries that grow with their position"],
  [({ attentionScale }) => attentionScale, "a scale of scores of its own"],
  [({ gated }) => gated === false, "an FFN without a gate"],
  [({ activation }) => activation, "another activation than SiLU"],
  [({ fusedGateUp }) => fusedGateUp, "gate and up in one matrix"],
  [({ experts }) => experts, "experts"],
  [
    ({ residualScale, logitScale }) => residualScale || logitScale,
    "factors on the stream or the logits",
  ],
];

function hasNormsAfter(norms: Family["norms"]): boolean {
  return typeof norms === "object" && norms.attentionAfter !== undefined;
}

/** Rows of the table, in Markdown without padding: the architecture, what is special, what llama.cpp does otherwise. */
export function familiesTable(): string[] {
  const rows = Object.entries(FAMILIES).sort(([a], [b]) => a < b ? -1 : 1).map(([name, family]) => {
    const special = SPECIAL.filter(([says]) => says(family)).map(([, words]) => words);
    const does = family.likeLlamaCpp ? `llama.cpp ${family.likeLlamaCpp.does}` : "";
    return `| \`${name}\` | ${special.join(", ") || "as Llama"} | ${does} |`;
  });
  return [
    "| `general.architecture` | what may be special | what llama.cpp does otherwise |",
    "| --- | --- | --- |",
    ...rows,
  ];
}

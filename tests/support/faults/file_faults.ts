/** All faults of files, kind by kind. */
import type { BrokenFile, Faults } from "./fault.ts";
import { KNOWN_FILES } from "./files/known.ts";
import { ABSENT, TOKENIZERS } from "./files/metadata.ts";
import {
  FILE_BLOCKS,
  FILE_NUMBERS,
  FILE_ORDERS,
  FILE_TENSORS,
  FILE_ZEROS,
} from "./files/weights.ts";

export const FILE_FAULTS: Readonly<Record<string, Faults<BrokenFile>>> = {
  "known before": Object.fromEntries(
    Object.entries(KNOWN_FILES).map(([name, fault]) => [name, { ...fault, known: true }]),
  ),
  "another tensor's numbers": FILE_TENSORS,
  order: FILE_ORDERS,
  zeros: FILE_ZEROS,
  "factors, roundings, bytes": FILE_NUMBERS,
  "blocks of quantized weights": FILE_BLOCKS,
  tokenizers: TOKENIZERS,
  absent: ABSENT,
};

/** All families, by `general.architecture`. */
import type { Family } from "../family.ts";
import { llama } from "./llama.ts";

/** What a file's architecture means. */
export const FAMILIES: Readonly<Record<string, Family>> = { llama };

/** Draws two figures in a process of its own, and prints their pictures' checksums. */
import { crc32 } from "node:zlib";
import { figures } from "../tables/picture_figures.ts";

for (const name of ["lens", "topTokens"]) console.log(crc32(await figures[name].png()));

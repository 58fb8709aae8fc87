// Prints the size of the embedded model; run without any permission.
import { findModel } from "../../../models/mod.ts";

console.log((await findModel("tiny")).bytes!.length);

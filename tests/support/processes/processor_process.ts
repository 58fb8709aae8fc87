/** A process that opens the processor, uses it, and is never told to end it. */
import { Processor } from "../../../engine/cpu/processor.ts";

const processor = new Processor(3);
processor.expect(Infinity);
const records = processor.home.take(256)!;
processor.home.words(records.address, 64).fill(0);
processor.run(records, 0, 1);
console.log(`${processor.threads} threads`);

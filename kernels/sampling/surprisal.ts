/** How likely the next id was. */
import { bindings, kernel } from "../kernel.ts";
import surprisalWgsl from "./surprisal.wgsl" with { type: "text" };

/** What stands for an id that is not known. */
export const NO_NEXT = 2 ** 31;

/**
 * x [R, columns], the id that follows each row → nats [R]: ln Σ e^x less the id's own x, its −ln p. NaN where the id is none of the
 * columns, and where a number of the row is NaN or +Infinity, or none is finite.
 */
export const surprisal = kernel({
  operation: "surprisal",
  wgsl: surprisalWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input x", "input next u32", "output nats"),
  grid: (pass) => [pass.rows, 1, 1],
  twin({ constants: { columns }, inputs: [x, next], outputs: [nats] }) {
    for (let row = 0; row < nats!.length; row++) {
      const numbers = x.subarray(row * columns, (row + 1) * columns);
      const largest = numbers.reduce((most, number) => Math.max(most, number), -Infinity);
      let sum = 0;
      for (const number of numbers) sum += Math.exp(number - largest);
      nats![row] = Math.log(sum) - (numbers[next[row]] - largest);
    }
  },
});

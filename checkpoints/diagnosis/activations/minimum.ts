/** Numbers that are fitted. */

/** Where a function with one minimum has it: golden section. */
export function minimum(of: (x: number) => number, from: number, to: number, steps = 60): number {
  const share = (Math.sqrt(5) - 1) / 2;
  let [a, b] = [from, to];
  let [c, d] = [b - share * (b - a), a + share * (b - a)];
  let [left, right] = [of(c), of(d)];
  for (let i = 0; i < steps; i++) {
    if (left < right) {
      [b, d, right] = [d, c, left];
      c = b - share * (b - a);
      left = of(c);
    } else {
      [a, c, left] = [c, d, right];
      d = a + share * (b - a);
      right = of(d);
    }
  }
  return (a + b) / 2;
}

/** Points of several layers in one table, under the names that were asked for. */
import type { Point, ResolvedPoint } from "../points/points.ts";
import { PieceError } from "./point_rows.ts";

/** What a table of points is made for. */
export interface Stack {
  /** With the layers that the names have: `blk.3.inp` is layer 3, though layer 2 made it. */
  readonly points: readonly Point[];
  /** The name that was asked for where that is an alias; with a star for the layer where there are several. */
  readonly alias?: string;
}

/**
 * Points as the names have them that they were asked for by.
 *
 * @throws {PieceError} for names of which more than the layer differs: their rows could not be told apart
 */
export function stackedAs(resolved: readonly ResolvedPoint[]): Stack {
  const [first] = resolved;
  const other = resolved.find(({ name }) => starred(name) !== starred(first.name));
  if (other) {
    throw new PieceError(
      other.name,
      `it does not stack with ${first.name}: only layers of one kind do`,
    );
  }
  const points = resolved.map(({ point, name }) =>
    name === point.name ? point : { ...point, layer: firstNumber(name) }
  );
  const alias = resolved.length === 1 ? first.name : starred(first.name);
  return resolved.some(({ point, name }) => name !== point.name) ? { points, alias } : { points };
}

/**
 * Checks that rows of the points go into one table.
 *
 * @throws {PieceError}
 */
export function checkStack(points: readonly Point[]): void {
  const [first] = points;
  // How many rows a pass makes may differ.
  const form = ({ axes, shape }: Point) =>
    `${axes} ${shape.map((dim) => typeof dim === "number" ? dim : "rows")}`;
  const other = points.find((point) => form(point) !== form(first));
  if (other) {
    throw new PieceError(
      other.name,
      `its [${other.shape}] do not stack with ${first.name} [${first.shape}]`,
    );
  }
  const layers = new Set<number | undefined>();
  for (const { name, layer } of points) {
    if (layers.has(layer)) throw new PieceError(name, `its rows would be those of another point`);
    layers.add(layer);
  }
}

/** A name with a star for its layer, the first number of every name that has one: `l_out-*`, `blocks.*.ln1.hook_scale`. */
function starred(name: string): string {
  return name.replace(/\d+/, "*");
}

function firstNumber(name: string): number | undefined {
  const number = name.match(/\d+/);
  return number ? Number(number[0]) : undefined;
}

export const TILES: ReadonlyMap<string, { id: number; tileBytes(columns: number): number }> =
  new Map();

/** What is in a folder of tensors: which passes, and which file has which point of each. */
import { basename, extname, isAbsolute, join, normalize } from "node:path";
import { type Point, type ResolvedPoint, resolvePoints } from "../../../inspect/points/points.ts";
import { readArrow } from "../../../inspect/tables/files.ts";
import { arrowContents, arrowPoint, type ArrowRun, arrowRun } from "./arrow_rows.ts";
import { type Entry, isTensorFile, type PassPlace } from "./load.ts";
import { MANIFEST, type Manifest, type ManifestTensor, parseManifest } from "./manifest.ts";

/** A pass and its tensors by canonical point. */
export interface FolderPass extends Omit<PassPlace, "ids"> {
  /** Undefined where the folder does not say: then those that are asked for. */
  readonly ids?: readonly number[];
  readonly entries: Map<string, Entry>;
}

/** A folder. Without a manifest it has of the manifest's facts only what its files say. */
export interface FolderContents extends Partial<Omit<Manifest, "format" | "version" | "passes">> {
  readonly passes: readonly FolderPass[];
  /** Names of tensors of blocks that the model does not have. */
  readonly beyond?: readonly string[];
}

/** Runs what has to do with a file: its errors get the file's name. */
export type Reading = <T>(file: string, read: () => T | Promise<T>) => Promise<T>;

/**
 * Reads a folder's manifest; without one, looks at its files. They are then of one prompt: `.npy` and `.bin` files of its pass,
 * each named after its point (`blk.0.q.npy`, `checkpoint_blk.0.q.bin`), Arrow files as their metadata say.
 *
 * @param points of the model
 * @throws {RangeError | TypeError} what `reading` gets to see
 */
export async function readContents(
  dir: string,
  points: readonly Point[],
  reading: Reading,
): Promise<FolderContents> {
  const names: string[] = [];
  await reading("", async () => {
    for await (const { name, isFile } of Deno.readDir(dir)) if (isFile) names.push(name);
  });
  if (names.includes(MANIFEST)) {
    return await reading(MANIFEST, async () => {
      const json = await Deno.readFile(join(dir, MANIFEST));
      return fromManifest(parseManifest(json), points);
    });
  }
  const files = names.filter(isTensorFile).sort();
  const found = new FoundFiles(points);
  for (const file of files) await reading(file, () => found.add(dir, file));
  await reading("", () => {
    if (files.length > 0) return;
    throw new RangeError(`no ${MANIFEST} and no .arrow, .npy or .bin file in it`);
  });
  return found.contents();
}

function fromManifest(manifest: Manifest, points: readonly Point[]): FolderContents {
  const { prompt_ids: promptIds } = manifest;
  const beyond = new Set<string>();
  const passes = manifest.passes.map((pass): FolderPass => {
    const { step, start, ids } = pass;
    const prompt = `${promptIds.slice(start, start + ids.length)}` === `${ids}`;
    if (step === 0 && !prompt) {
      throw new TypeError(`step 0 ran ids that are not those of prompt_ids from ${start} on`);
    }
    if (step > 0 && start < promptIds.length) {
      throw new TypeError(`step ${step} starts at ${start}, within the prompt`);
    }
    const entries = new Map<string, Entry>();
    for (const [name, tensor] of Object.entries(pass.tensors)) {
      checkFile(tensor);
      const resolved = resolveWithin(points, name);
      if (resolved) addEntry(entries, { resolved, ...tensor });
      else beyond.add(name);
    }
    return { step, start, ids, entries };
  });
  return {
    ...manifest,
    beyond: [...beyond],
    passes: passes.sort((a, b) => a.step - b.step || a.start - b.start),
  };
}

function checkFile({ file }: ManifestTensor): void {
  if (isAbsolute(file) || /^\.\.([\\/]|$)/.test(normalize(file))) {
    throw new RangeError(`${file} is outside of the folder`);
  }
  if (!isTensorFile(file)) throw new RangeError(`${file} is no .arrow, .npy or .bin file`);
}

function addEntry(entries: Map<string, Entry>, entry: Entry): void {
  const { point, name } = entry.resolved;
  const twin = entries.get(point.name);
  if (twin) {
    const both = `${twin.resolved.name} (${twin.file}) and ${name} (${entry.file})`;
    throw new RangeError(`${both} are the same point, ${point.name}`);
  }
  entries.set(point.name, entry);
}

/** The one point that a name means. */
function resolve(points: readonly Point[], name: string): ResolvedPoint {
  const found = resolvePoints(points, [name]).find((each) => each.name === name);
  if (!found) throw new RangeError(`${JSON.stringify(name)} is a pattern, not a point`);
  return found;
}

/** The one point that a name means; undefined for a name that only its layer makes unknown. */
function resolveWithin(points: readonly Point[], name: string): ResolvedPoint | undefined {
  try {
    return resolve(points, name);
  } catch (error) {
    const first = name.replace(/\d+/, "0");
    if (first !== name && isKnown(points, first)) return undefined;
    throw error;
  }
}

function isKnown(points: readonly Point[], name: string): boolean {
  try {
    resolve(points, name);
    return true;
  } catch {
    return false;
  }
}

/** Files that tell themselves what they are. */
class FoundFiles {
  readonly #points: readonly Point[];
  readonly #steps = new Map<number, Map<string, Entry>>();
  readonly #beyond: string[] = [];
  #run: ArrowRun | undefined;

  constructor(points: readonly Point[]) {
    this.#points = points;
  }

  async add(dir: string, file: string): Promise<void> {
    const stem = basename(file, extname(file));
    if (extname(file) !== ".arrow") {
      const name = extname(file) === ".bin" ? stem.replace(/^checkpoint_/, "") : stem;
      const resolved = resolveWithin(this.#points, name);
      if (resolved) this.#add(0, resolved, file);
      else this.#beyond.push(name);
      return;
    }
    const table = await readArrow(join(dir, file));
    const run = arrowRun(table);
    if (run && this.#run && JSON.stringify(run) !== JSON.stringify(this.#run)) {
      throw new RangeError("of another run than the files before it");
    }
    this.#run ??= run;
    const { steps, layers } = arrowContents(table);
    const several = resolvePoints(this.#points, [arrowPoint(table) ?? stem])
      .filter(({ point }) => layers === undefined || layers.includes(point.layer ?? -1));
    for (const step of steps) {
      for (const resolved of several) this.#add(step, resolved, file);
    }
  }

  contents(): FolderContents {
    const { promptIds, ids } = this.#run ?? {};
    const steps = [...this.#steps].sort(([a], [b]) => a - b);
    return {
      prompt_ids: promptIds,
      ids: ids?.length ? ids : undefined,
      beyond: this.#beyond,
      passes: steps.map(([step, entries]) => ({ ...this.#place(step), step, entries })),
    };
  }

  #place(step: number): Pick<FolderPass, "start" | "ids"> {
    if (!this.#run) return { start: 0 };
    const { promptIds, ids } = this.#run;
    if (step === 0) return { start: 0, ids: promptIds };
    return { start: promptIds.length + step - 1, ids: ids.slice(step - 1, step) };
  }

  #add(step: number, resolved: ResolvedPoint, file: string): void {
    const entries = this.#steps.get(step) ?? new Map<string, Entry>();
    this.#steps.set(step, entries);
    addEntry(entries, { resolved, file });
  }
}

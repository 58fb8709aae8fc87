/** What came of faults, counted: is the first tensor the right one, and is its cause named rightly, not known, or wrong? */
import assert from "node:assert/strict";
import type { Cause } from "../../../checkpoints/diagnosis/causes.ts";
import type { Expected } from "./fault.ts";

/** What is said of a fault's cause; `missed` where nothing was found. */
export type Naming = "right" | "unknown" | "missed" | "wrong";

/** What a comparison says went wrong first. */
export interface Said {
  readonly checkpoint: string;
  readonly point: string;
  readonly step?: number;
  readonly cause: string;
  readonly explained: number;
  readonly detail: string;
}

/** What came of one fault on one model. */
export interface Outcome {
  readonly kind: string;
  readonly fault: string;
  readonly model: string;
  /** Whether the first tensor is the right one. */
  readonly placed: boolean;
  readonly naming: Naming;
  /** What is said of it, for people. */
  readonly said?: string;
}

/** Shares that faults have to reach. */
const PLACED = 0.98;
const NAMED = 0.8;
/** What a cause that is named must explain. */
const EXPLAINED = 0.99;

/** From the best to the worst: a fault is as good as on its worst model. */
const NAMINGS: readonly Naming[] = ["right", "unknown", "missed", "wrong"];

/**
 * Judges what is said of a fault.
 *
 * @param expected its point with the block
 */
export function judged(
  expected: Expected,
  said: Said | undefined,
): Pick<Outcome, "placed" | "naming" | "said"> {
  if (!said) return { placed: false, naming: "missed" };
  const { checkpoint, point, step = 0, causes } = expected;
  const { cause } = said;
  const naming = (causes as readonly string[]).includes(cause) && cause !== "unknown"
    ? "right"
    : cause === "unknown"
    ? "unknown"
    : "wrong";
  const text = `${cause} at ${said.point}, step ${said.step ?? 0}: ${said.detail}`;
  if (checkpoint === ABSENT) return { placed: cause === ABSENT, naming, said: text };
  const isTokenizers = point === IDS && said.checkpoint === "0" &&
    (said.point === IDS || said.point.startsWith("tokenizer"));
  const isThere = said.checkpoint === checkpoint && said.point === point &&
    (said.step ?? 0) === step;
  return { placed: isTokenizers || isThere, naming, said: text };
}

const ABSENT = "absent" satisfies Cause;
const IDS = "token ids";

/** Fails where what is said of a fault is false: a wrong cause, or a right one with wrong figures. */
export function assertHonest(
  expected: Expected,
  said: Said | undefined,
  { placed, naming }: Pick<Outcome, "placed" | "naming">,
): void {
  const { causes, detail, known } = expected;
  const text = JSON.stringify(said);
  assert.notEqual(naming, "wrong", `${said?.cause} is none of ${causes.join(", ")}: ${text}`);
  if (known) {
    assert.ok(placed, `not at ${expected.point}: ${text}`);
    assert.equal(said?.cause, causes[0], text);
  }
  if (naming !== "right" || !said) return;
  assert.ok(said.explained > EXPLAINED, `explains ${said.explained}: ${text}`);
  if (detail) assert.match(said.detail, detail);
}

/** Counts outcomes. */
export class Board {
  readonly #outcomes: Outcome[] = [];

  constructor(readonly title: string) {}

  add(outcome: Outcome): void {
    this.#outcomes.push(outcome);
  }

  /** What is found of a fault; where that fails the fault is missed. */
  async orMissed<T>(
    where: Pick<Outcome, "kind" | "fault" | "model">,
    found: Promise<T>,
  ): Promise<T> {
    try {
      return await found;
    } catch (error) {
      this.add({ ...where, placed: false, naming: "missed" });
      throw error;
    }
  }

  /** Each fault once, as it was on its worst model. */
  #faults(): Outcome[] {
    const groups = Map.groupBy(this.#outcomes, ({ kind, fault }) => `${kind}: ${fault}`);
    const badness = ({ naming }: Outcome) => NAMINGS.indexOf(naming);
    return [...groups.values()].map((all) => ({
      ...all.reduce((worst, each) => badness(each) > badness(worst) ? each : worst),
      placed: all.every(({ placed }) => placed),
    }));
  }

  /** Fails where too few first tensors are right. */
  assertPlaced(): void {
    this.#assertMost(PLACED, "the first tensor is right", ({ placed }) => placed);
  }

  /** Fails where too few causes are named. */
  assertNamed(): void {
    this.#assertMost(NAMED, "the cause is named", ({ naming }) => naming === "right");
  }

  #assertMost(least: number, what: string, is: (fault: Outcome) => boolean): void {
    const faults = this.#faults();
    const others = faults.filter((fault) => !is(fault));
    const reached = 1 - others.length / faults.length;
    const percent = (100 * reached).toFixed(1);
    assert.ok(reached >= least, `${what} in ${percent} %, not in\n${others.map(line).join("\n")}`);
  }

  /** A table in Markdown: a row per kind. */
  toString(): string {
    const row = (name: string, faults: readonly Outcome[]) => {
      const of = (naming: Naming) => faults.filter((fault) => fault.naming === naming).length;
      const placed = faults.filter(({ placed }) => placed).length;
      return [name, faults.length, placed, ...NAMINGS.map(of)];
    };
    const faults = this.#faults();
    const kinds = [...Map.groupBy(faults, ({ kind }) => kind)].map(([kind, of]) => row(kind, of));
    const lines = [
      [this.title, "faults", "first tensor right", ...NAMINGS.map((naming) => `cause ${naming}`)],
      ["---", ...Array(NAMINGS.length + 2).fill("--:")],
      ...kinds,
      row("all", faults),
    ];
    return lines.map((cells) => `| ${cells.join(" | ")} |\n`).join("");
  }

  /** Prints the table and what is not as it should be where LAMINA_FAULT_SHOW is set, and adds it to the file that LAMINA_FAULT_BOARD names. */
  async show(): Promise<void> {
    if (SHOWS) {
      const isBad = ({ placed, naming }: Outcome) => !placed || naming !== "right";
      console.log(`${this}\n${this.#faults().filter(isBad).map(line).join("\n")}`);
    }
    const path = Deno.env.get("LAMINA_FAULT_BOARD");
    if (path) await Deno.writeTextFile(path, `${this}\n`, { append: true });
  }
}

/** A fault and what is said of it. */
function line({ kind, fault, model, placed, naming, said = naming }: Outcome): string {
  return `${kind}: ${fault} (${model}): ${placed ? "" : "ELSEWHERE: "}${said}`;
}

/** Whether the table is printed. */
const SHOWS = Deno.env.has("LAMINA_FAULT_SHOW");

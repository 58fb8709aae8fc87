/** A comparison as people and machines read it. */
import { formatTable } from "../../../inspect/format.ts";
import { escapeXml, printable } from "../../../inspect/escape.ts";
import { leftText, placeText, roundingText } from "../compare.ts";
import { NO_CASE } from "../checks.ts";
import type { Explanation } from "../../diagnosis/causes.ts";
import type { CheckpointResult, ParityResult, ParityRow } from "../comparison.ts";
import type { DivergenceEvidence } from "../divergence/evidence.ts";

/** The first point that went wrong, and why. */
export interface FirstDivergence {
  readonly checkpoint: string;
  /** `token ids` where already those differ. */
  readonly point: string;
  /** The compared point; undefined where no tensor was compared. */
  readonly row?: ParityRow;
  readonly explanation: Explanation;
  /** What it can be followed with; undefined where the tensors that are needed are not shown. */
  readonly evidence?: DivergenceEvidence;
}

/** What `--json` prints of a comparison. */
export function reportJson(result: ParityResult, first?: FirstDivergence) {
  return {
    passed: result.passed,
    checkpoints: result.checkpoints.map((each) => {
      const { checkpoint, status, why, worst, verdict, failedChecks } = each;
      return {
        id: checkpoint.id,
        status,
        ...(why ? { why } : {}),
        point: worst?.point ?? null,
        worst: verdict?.error ?? null,
        tolerance: verdict?.allowed ?? checkpoint.tolerance,
        ...(verdict?.rounding ? { rounding: verdict.rounding } : {}),
        ...(failedChecks.length > 0 ? { failed: failedChecks.map(({ what }) => what) } : {}),
      };
    }),
    first: first
      ? {
        checkpoint: first.checkpoint,
        point: first.point,
        cause: first.explanation.cause,
        explained: Number(first.explanation.explained.toPrecision(4)),
        detail: first.explanation.detail,
        ...(first.explanation.leaves ? { leaves: first.explanation.leaves } : {}),
        ...(first.row ? { step: first.row.step, place: failedVerdict(first.row).place } : {}),
      }
      : null,
    absent: result.absent,
    notes: result.notes,
    unseen: unseenOf(result) ?? null,
    reference: result.provenance,
    ratio: result.ratio ?? null,
  };
}

/**
 * The lines for people.
 *
 * @param recompute the command that looks closer at what went wrong first, where a bundle holds it
 */
export function reportText(
  result: ParityResult,
  first?: FirstDivergence,
  recompute?: string,
): string {
  const { name, version, device, weights } = result.provenance;
  // A folder of tensors need not say where they were made.
  const facts = [device, weights].filter((fact) => fact !== "").join("; ");
  const heading = `with ${[name, version].filter((part) => part !== "").join(" ")} (${facts})`;
  const before = beginningLines(result).map(printable);
  const lines = [printable(heading), ...before, "", formatTable(checkpointRows(result), "rllll")];
  const ratio = ratioLine(result);
  if (ratio) lines.push("", printable(ratio));
  const unseen = unseenLine(result);
  if (unseen) lines.push("", printable(unseen));
  if (first) lines.push("", ...divergenceLines(first).map(printable));
  if (first?.evidence && recompute) lines.push(printable(`recompute: ${recompute}`));
  return lines.join("\n");
}

/** What is said in front of the numbers, in lines. */
export function beginningLines({ absent, notes }: ParityResult): string[] {
  return [...absent.map((line) => `absent: ${line}`), ...notes];
}

/** Of each checkpoint its id, title, status, worst point and outcome. */
export function checkpointRows(result: ParityResult): string[][] {
  return result.checkpoints.map((each) => [
    each.checkpoint.id,
    each.checkpoint.title,
    each.status + (each.why ? `: ${each.why}` : ""),
    each.worst?.point ?? "",
    outcome(each, result),
  ]);
}

/** How our errors compare with the reference's own; undefined where the oracle did not run. */
export function ratioLine({ ratio, provenance: { name } }: ParityResult): string | undefined {
  return ratio &&
    `RMS error against the 64-bit oracle, as a ratio to ${name}'s: median ${
      ratio.median.toFixed(2)
    }, 95th percentile ${ratio.p95.toFixed(2)} (${ratio.points} points)`;
}

/** Weights that differ too little to be seen. */
interface Unseen {
  readonly tensors: number;
  /** The largest difference, as a part of the largest number around it, and in which tensor. */
  readonly largest: number;
  readonly tensor: string;
}

/** Of weights that have other bytes and whose operations pass all the same how many there are; undefined where there is none. */
function unseenOf({ rows }: ParityResult): Unseen | undefined {
  const found = new Map<string, number>();
  for (const { local } of rows) {
    if (local?.otherBytes) found.set(local.otherBytes.tensor, local.otherBytes.largest);
  }
  for (const { local } of rows) {
    if (local?.otherBytes && !local.passed) found.delete(local.otherBytes.tensor);
  }
  const [first] = [...found].sort(([, a], [, b]) => b - a);
  return first && { tensors: found.size, largest: first[1], tensor: first[0] };
}

/** What was too small to be seen; undefined where nothing was. */
export function unseenLine(result: ParityResult): string | undefined {
  const unseen = unseenOf(result);
  if (!unseen) return undefined;
  const { tensors, largest, tensor } = unseen;
  return `${tensors} ${
    tensors === 1 ? "tensor has" : "tensors have"
  } other bytes, too close to see: ` +
    `largest relative difference ${largest.toExponential(0)}, ${tensor}`;
}

/** The lines for a terminal: what passed in green, what failed in red. */
export function coloured(text: string): string {
  const colours: Readonly<Record<string, number>> = { pass: 32, fail: 31, skipped: 33 };
  return text.replaceAll(
    /^( ?\d+B? {2}\S.*? {2})(pass|fail|skipped)\b/gm,
    (_, before, status) => `${before}\x1b[${colours[status]}m${status}\x1b[0m`,
  ).replaceAll(/^cause: (\S+):/gm, "cause: \x1b[1m$1\x1b[0m:");
}

/** What a checkpoint's line ends with: the worst element, or what its checks say. */
function outcome({ checkpoint, verdict, failedChecks }: CheckpointResult, result: ParityResult) {
  if (failedChecks.length > 0) {
    const [{ case: name, what }] = failedChecks;
    return name === NO_CASE ? what : `${name}: ${what}`;
  }
  if (!verdict) {
    const own = result.checks.filter((check) => check.checkpoint === checkpoint.id);
    const said = own.map(({ what, judged }) => judged === false ? `${what}; not judged` : what);
    return [...new Set(said)].join("; ");
  }
  return verdict.error === 0 ? "exactly" : leftText(verdict);
}

/** The verdict by which a row failed: the local one, unless only the cumulative one did. */
export function failedVerdict({ local, cumulative }: ParityRow) {
  if (!local) return cumulative!;
  return local.passed && cumulative?.passed === false ? cumulative : local;
}

/** What went wrong first, and why, in lines. */
export function divergenceLines(
  { checkpoint, point, row, explanation }: FirstDivergence,
): string[] {
  const { cause, explained, before, after, leaves, detail, look } = explanation;
  const lines = [`first divergence: ${point} (checkpoint ${checkpoint})`];
  if (row) {
    const { place, ours, reference, allowed, rounding } = failedVerdict(row);
    const pass = row.step === 0 ? row.case : `${row.case}, generated token ${row.step}`;
    lines.push(
      `  worst at ${placeText(place)} (${pass}): ${number(ours)} here, ${
        number(reference)
      } there, allowed ${allowed.toExponential(1)}`,
    );
    if (rounding) {
      const where = rounding.where === undefined ? "" : ` in ${rounding.where}`;
      lines.push(`  ${roundingText(rounding)}${where}`);
    }
  }
  const how = cause === "unknown" || Number.isNaN(before)
    ? ""
    : ` It explains ${(100 * explained).toFixed(2)} % (RMS ${before.toExponential(1)} → ${
      after.toExponential(1)
    })${leaves ? `, and leaves ${leaves}` : ""}.`;
  lines.push(`cause: ${cause}: ${detail}.${how}`, `look at: ${look}`);
  return lines;
}

function number(value: number): string {
  return Number.isFinite(value) ? value.toPrecision(6) : `${value}`;
}

/** Several references' reports as one: a checkpoint fails where one of them fails it. */
export function mergedJson(
  results: readonly { readonly result: ParityResult; readonly first?: FirstDivergence }[],
) {
  const reports = results.map(({ result, first }) => reportJson(result, first));
  const rank = { fail: 2, pass: 1, skipped: 0 };
  const checkpoints = reports[0].checkpoints.map((_, i) =>
    reports.map((report) => report.checkpoints[i])
      .reduce((worst, each) => rank[each.status] > rank[worst.status] ? each : worst)
  );
  return {
    passed: reports.every(({ passed }) => passed),
    checkpoints,
    first: reports.find(({ first }) => first)?.first ?? null,
    absent: [...new Set(reports.flatMap(({ absent }) => absent))],
    notes: [...new Set(reports.flatMap(({ notes }) => notes))],
    references: reports.map(({ reference, ratio, passed }) => ({ ...reference, ratio, passed })),
  };
}

/** A JUnit report: a suite per reference, a test per checkpoint. References that failed are errors. */
export function junit(
  model: string,
  results: readonly { readonly result: ParityResult }[],
  failures: readonly { readonly reference: string; readonly message: string }[],
): string {
  const suite = (name: string, tests: readonly string[], counts: string) =>
    `  <testsuite name="${
      escapeXml(`${model} with ${name}`)
    }" tests="${tests.length}" ${counts}>\n${tests.join("\n")}\n  </testsuite>`;
  const suites = results.map(({ result }) => {
    const tests = result.checkpoints.map((each) => {
      const { checkpoint, status, why } = each;
      const open = `    <testcase name="${escapeXml(`${checkpoint.id} ${checkpoint.title}`)}"`;
      if (status === "pass") return `${open}/>`;
      const body = status === "skipped"
        ? `<skipped message="${escapeXml(why ?? "")}"/>`
        : `<failure message="${
          escapeXml(`${each.worst?.point ?? ""} ${outcome(each, result)}`.trim())
        }"/>`;
      return `${open}>${body}</testcase>`;
    });
    const count = (status: string) =>
      result.checkpoints.filter((each) => each.status === status).length;
    const counts = `failures="${count("fail")}" skipped="${count("skipped")}"`;
    return suite(result.provenance.name, tests, counts);
  });
  for (const { reference, message } of failures) {
    const test = `    <testcase name="reference"><error message="${
      escapeXml(message)
    }"/></testcase>`;
    suites.push(suite(reference, [test], 'errors="1"'));
  }
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n${
    suites.join("\n")
  }\n</testsuites>\n`;
}

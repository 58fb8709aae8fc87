/** What `task model diff` prints. */
import { formatTable } from "../../inspect/format.ts";
import { jsonLine, printable } from "../../inspect/escape.ts";
import type { ModelDiff, TensorDiff } from "../files/diff/diff.ts";
import { CONFIG_FILE } from "../files/weight_file.ts";

/** For people: what is wrong, then how good the rest is, type by type. */
export function diffText(diff: ModelDiff): string {
  const { tensors, metadata } = diff;
  const parts = [`A  ${printable(diff.a)}\nB  ${printable(diff.b)}`];
  const wrong = tensors.filter(({ finding }) => finding);
  if (wrong.length > 0) parts.push(wrongTable(wrong));
  if (metadata.length > 0) {
    const rows = metadata.map(({ key, a, b, matters }) => [key, a, b, matters ? "" : "(a note)"]);
    parts.push(formatTable([["metadata", "A", "B", ""], ...rows], "llll"));
  }
  const skipped = tensors.filter(({ skipped }) => skipped);
  for (const [why, group] of Map.groupBy(skipped, ({ skipped }) => skipped)) {
    parts.push(
      `not compared: ${countOf(group, "tensor")}, ${printable(group[0].name)} the first: ${
        printable(`${why}`)
      }`,
    );
  }
  const good = tensors.filter(({ finding, nmse }) => !finding && nmse !== undefined);
  if (good.length > 0) parts.push(goodTable(good));
  const mattering = metadata.filter(({ matters }) => matters);
  parts.push(
    diff.passed
      ? `${countOf(good, "tensor")} in band, ${alike(metadata)}`
      : `${countOf(wrong, "tensor")} of ${tensors.length} and ${
        countOf(mattering, "metadata value")
      } are not what they should be`,
  );
  return parts.join("\n\n");
}

/** Files that both say nothing are not alike in it. */
function alike(metadata: ModelDiff["metadata"]): string {
  const missing = metadata.some(({ key }) => key === CONFIG_FILE);
  return missing ? "metadata not compared" : "metadata alike";
}

/** One line for machines; numbers that JSON does not have become null. */
export function diffJson({ a, b, passed, tensors, metadata }: ModelDiff): string {
  return jsonLine({ a, b, passed, tensors, metadata });
}

function wrongTable(tensors: readonly TensorDiff[]): string {
  const rows = tensors.map(({ name, a, b, nmse, band, finding, worst }) => {
    const { cause, detail, undone } = finding!;
    const after = undone === undefined ? "" : ` (${figure(undone)} when undone)`;
    // Where everything is wrong no block is worse than others.
    const place = cause === "unknown" && worst
      ? `; worst in row ${worst.row}, columns ${worst.column} to ${worst.column + worst.count - 1}`
      : "";
    return [
      name,
      a?.type ?? "-",
      b?.type ?? "-",
      nmse === undefined ? "-" : figure(nmse),
      band ? `${band.type} below ${figure(band.nmse)}` : "",
      `${cause}: ${detail}${after}${place}`,
    ];
  });
  return formatTable([["tensor", "A", "B", "NMSE", "", ""], ...rows], "lllrll");
}

function goodTable(tensors: readonly TensorDiff[]): string {
  const groups = Map.groupBy(tensors, ({ a, b }) => `${a!.type} ${b!.type}`);
  const rows = [...groups.values()].map((group) => {
    const worst = group.reduce((worst, each) => each.nmse! > worst.nmse! ? each : worst);
    const { a, b, band, name, nmse } = worst;
    return [
      countOf(group, "tensor"),
      a!.type,
      b!.type,
      figure(nmse!),
      `${band!.type} below ${figure(band!.nmse)}`,
      nmse! > 0 ? name : "",
    ];
  });
  return formatTable([["in band", "A", "B", "NMSE", "", "worst"], ...rows], "lllrll");
}

function countOf(list: readonly unknown[], what: string): string {
  return `${list.length} ${what}${list.length === 1 ? "" : "s"}`;
}

/** Two digits: `0.0073`, `2.9e-5`. */
function figure(value: number): string {
  if (value === 0) return "0";
  const short = value.toPrecision(2);
  return value < 0.001 ? Number(short).toExponential() : String(Number(short));
}

/**
 * `./denow task explain`: one HTML page that steps through the forward pass of a prompt.
 *
 * @module
 */
import { explainPage } from "../explain_page/build.ts";
import { loadModel } from "../run/model.ts";
import { choice, flag, number, text, UsageError } from "./args.ts";
import { formatBytes } from "../format.ts";
import { printError, printLine } from "./print.ts";
import { createLoadProgress } from "./progress.ts";
import { openOutput } from "./output_file.ts";
import { defineCommand, runCommand } from "./run_command.ts";
import { jsonLine, printable } from "../escape.ts";

/** Scripts, style and words of a page, with room to spare. */
const OTHER_BYTES = 400_000;

const command = defineCommand({
  name: "./denow task explain",
  summary:
    "Runs a prompt and writes one HTML page that steps through every operation of the pass: shapes, " +
    "numbers, pictures, formulas and the code. The page needs no network.",
  options: {
    model: text("known name or path of a GGUF file", "FILE|NAME", "tiny"),
    out: text("the page: FILE.html", "FILE"),
    "max-tokens": number("generate N tokens; all but the last become positions of the page", {
      integer: true,
      min: 1,
      default: 1,
    }),
    "max-size": number(
      "megabytes that the page may have; where its numbers do not fit, it keeps the last positions",
      { min: 1, max: 100, default: 5 },
    ),
    backend: choice("where to run", ["auto", "webgpu", "cpu"], "auto"),
    json: flag("print one line of JSON, and nothing on the way"),
  },
  positionals: ["PROMPT"],
  async main({ options, positionals: [prompt], signal }) {
    const { out, json, model: name } = options;
    if (out === undefined) throw new UsageError("--out is missing: a file for the page, FILE.html");
    await using file = await openOutput(out);
    const progress = createLoadProgress(name, { quiet: json });
    using model = await loadModel(name, { backend: options.backend, signal, ...progress })
      .finally(progress.finish);
    const { html, content: { data } } = await explainPage(model, prompt, {
      maxTokens: options["max-tokens"],
      maxBytes: options["max-size"] * 1e6 - OTHER_BYTES,
      signal,
      onCapture: json ? () => {} : undefined,
    });
    const bytes = await file.write(html);
    const { tokens, positions, steps } = data;
    if (json) {
      const ids = tokens.map(({ id }) => id);
      printLine(jsonLine({ model: name, file: out, bytes, ids, positions }));
      return;
    }
    printLine(
      `${printable(out)}  ${steps.length} steps  ${tokens.length} tokens  ${formatBytes(bytes)}`,
    );
    if (bytes > options["max-size"] * 1e6) {
      printError("that is above --max-size: the vectors of one token take as much");
    } else if (positions.length < tokens.length) {
      printError(
        `the page holds the vectors of the last ${positions.length} of ${tokens.length} tokens; ` +
          "--max-size N gives it room for more",
      );
    }
  },
});

if (import.meta.main) await runCommand(command);

/**
 * `./denow task proof verify DIR`: checks a proof bundle.
 *
 * @module
 */
import { flag, UsageError } from "../../inspect/commands/args.ts";
import { printError, printLine } from "../../inspect/commands/print.ts";
import { defineCommand, EXIT, runCommand } from "../../inspect/commands/run_command.ts";
import { verifyProof } from "../parity/proof.ts";
import { jsonLine, printable } from "../../inspect/escape.ts";

const command = defineCommand({
  name: "./denow task proof",
  summary: "verify DIR: whether a proof bundle is as it was written and says what its numbers say.",
  options: { json: flag("print one line of JSON") },
  positionals: ["verify", "DIR"],
  async main({ options, positionals: [word, folder] }) {
    if (word !== "verify") {
      throw new UsageError(`unknown command ${JSON.stringify(word)}; did you mean verify ${word}?`);
    }
    const problems = await verifyProof(folder);
    const verified = problems.length === 0;
    if (options.json) printLine(jsonLine({ folder, verified, problems }));
    else if (verified) printLine(`${printable(folder)}: verified`);
    else printError(problems.map((problem) => printable(`${folder}: ${problem}`)).join("\n"));
    return verified ? EXIT.done : EXIT.failed;
  },
});

if (import.meta.main) await runCommand(command);

import { printable, printableLines } from "../escape.ts";
import {
  type CommandLine,
  type CommandSyntax,
  helpText,
  type Options,
  parseCommandLine,
  UsageError,
} from "./args.ts";
import { listenForInterrupt } from "./interrupt.ts";
import { printError, printLine } from "./print.ts";

/** What a command works with. */
export interface CommandContext<O extends Options> extends CommandLine<O> {
  /** Aborted by the first Ctrl-C; the second ends the process at once. */
  readonly signal: AbortSignal;
}

/** A command: what it accepts, and what it does. */
export interface Command<O extends Options> extends CommandSyntax<O> {
  /** Returns the exit code, nothing for 0. Errors may be thrown. */
  readonly main: (context: CommandContext<O>) => Promise<number | void> | number | void;
}

/** The exit codes of every command. */
export const EXIT = { done: 0, failed: 1, usage: 2 } as const;

/** Names a command's option types for its `main`; returns the command as it is. */
export function defineCommand<O extends Options>(command: Command<O>): Command<O> {
  return command;
}

/**
 * Runs a command and ends the process: exit code 0 when it is done, 1 when it failed, 2 for wrong
 * usage. An error is one line on stderr; `--debug` adds its stack.
 */
export async function runCommand<O extends Options>(
  command: Command<O>,
  args: readonly string[] = Deno.args,
): Promise<never> {
  Deno.exit(await commandExitCode(command, args));
}

/** As {@linkcode runCommand}, but returns the exit code. */
export async function commandExitCode<O extends Options>(
  command: Command<O>,
  args: readonly string[],
): Promise<number> {
  using interrupt = listenForInterrupt();
  try {
    const line = parseCommandLine(command, args);
    if (line.help) {
      printLine(helpText(command));
      return EXIT.done;
    }
    return await command.main({ ...line, signal: interrupt.signal }) ?? EXIT.done;
  } catch (error) {
    // Whoever reads the output has read enough, as `head` does.
    if (error instanceof Deno.errors.BrokenPipe) return EXIT.done;
    // The line may be what is wrong, so its --debug is looked for by hand.
    const end = args.indexOf("--");
    const debug = args.slice(0, end < 0 ? args.length : end).includes("--debug");
    return reportError(withAdvice(error, command.name), debug);
  }
}

/** A missing permission is better asked for as a set than by Deno's own advice, one flag after the other. */
function withAdvice(error: unknown, command: string): unknown {
  if (!(error instanceof Deno.errors.NotCapable)) return error;
  const problem = error.message.replace(/, run again with .*/, "");
  const line = command.replace(/ run /, " run -P ");
  return new Error(`${problem}; use ${line} …, which has the permissions`, { cause: error });
}

/**
 * Prints an error as one line on stderr, and its stack where that is asked for.
 *
 * @returns the exit code that it deserves
 */
export function reportError(error: unknown, debug: boolean): number {
  printError(`error: ${oneLine(error)}`);
  if (debug) printError(printableLines(Deno.inspect(error)));
  return error instanceof UsageError ? EXIT.usage : EXIT.failed;
}

function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message || error.name : String(error);
  // Names out of files stand in messages.
  return printable(message.replace(/[\r\n\t]+/g, " ").trim());
}

/** What a template may spend: the steps of a conversation of ten thousand turns, a second's work or two. */
const MOST_STEPS = 5_000_000;

/** The longest text, in UTF-16 units, that a template may make on the way or in the end. */
const LONGEST_TEXT = 20_000_000;

/** As many units of a text are copied or searched in about the time of one step. */
const UNITS_PER_STEP = 16;

/** The largest int: as many digits as Python itself prints. */
const LARGEST_INT = 10n ** 4300n;
const MOST_BITS = 14_285n;

/** A template took more than it may: one line that says what. */
export class LimitFault extends Error {
  override readonly name = "LimitFault";
}

/**
 * Counts what a rendering spends, so that every template ends. Counted in steps and not in seconds,
 * so that a prompt does not depend on how busy the machine is.
 */
export class Budget {
  #steps = MOST_STEPS;

  /** @throws {LimitFault} when there have been too many steps */
  spend(steps: number): void {
    this.#steps -= steps;
    if (this.#steps < 0) {
      throw new LimitFault(`it takes more than ${MOST_STEPS} steps`);
    }
  }

  /** @throws {LimitFault} when a text of that length is too long */
  fits(length: number): void {
    if (length > LONGEST_TEXT) {
      throw new LimitFault(`it makes a text of more than ${LONGEST_TEXT} characters`);
    }
  }

  /** Pays for a text that is `length` long and may not be there yet. */
  reserve(length: number): void {
    this.fits(length);
    this.spend(Math.ceil(length / UNITS_PER_STEP));
  }

  /** Pays for a text that was made or is gone through; returns it. */
  text(text: string): string {
    this.reserve(text.length);
    return text;
  }

  /** Returns an int that is not too large. */
  int(value: bigint): bigint {
    if (value > LARGEST_INT || value < -LARGEST_INT) throw tooLarge();
    return value;
  }

  /** Returns a power that is not too large, which shows before it is taken. */
  power(base: bigint, exponent: bigint): bigint {
    const bits = (base < 0n ? -base : base).toString(2).length - 1;
    if (BigInt(bits) * exponent > MOST_BITS) throw tooLarge();
    return this.int(base ** exponent);
  }
}

function tooLarge(): LimitFault {
  return new LimitFault("it makes a number of more than 4300 digits");
}

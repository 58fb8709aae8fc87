"""Writes the corpus: train.jsonl and held-out.jsonl, one {"kind", "text"} a line.

    python corpus.py FOLDER [documents]

The whole corpus follows from one seed; each document has a generator of its own,
seeded by its number, so that any document can be made again without the others.
Most documents are stories (see stories.py).  The rest are exercises in repeating:
lists said twice, roll calls of invented names, who-has-what.  Sequences of random
TOKENS need no text; train.py adds them.
"""

import json
import random
import re
import sys
from pathlib import Path

from grammar import BOYS, COLOURS, GIRLS, THINGS, WORDS, capitalised, cast, expand, invented_name
from stories import BRIDGES, ENDINGS, EPISODES, OPENINGS

SEED = 20261124
HELD_OUT = 400


def episode(kind, slots, rng):
    """One episode, and what "all about ..." means after it."""
    the, body, _ = EPISODES[kind]
    text = expand(body, slots, rng)
    return text, expand("x" + the, slots, rng)[1:]  # the x keeps it from being capitalised


def story(rng, kind):
    """An opening, one episode, an ending."""
    slots = cast(rng)
    opening = rng.choice(OPENINGS)
    parts = [expand(opening, slots, rng)]
    text, slots["the"] = episode(kind, slots, rng)
    parts.append(capitalised(bare(text)) if "It was a" in opening else text)
    if rng.random() < 0.6:
        parts.append(expand(rng.choice(ENDINGS), slots, rng))
    if rng.random() < 0.5:
        parts.append(EPISODES[kind][2])
    return " ".join(parts)


def long_story(rng):
    """Two to four episodes with the same two friends, a paragraph each."""
    slots = cast(rng)
    parts = [expand(rng.choice(OPENINGS), slots, rng)]
    for i, kind in enumerate(rng.sample(list(EPISODES), rng.choice((2, 2, 3, 3, 4)))):
        # The friends stay, everything else is new.
        slots = {**cast(rng), **{k: slots[k] for k in ("A", "B", "elder")}}
        text, slots["the"] = episode(kind, slots, rng)
        if i:
            parts.append("\n" + rng.choice(BRIDGES) + ", " + bare(text))
        else:
            parts[0] += " " + text
    parts.append(" " + expand(rng.choice(ENDINGS), slots, rng))
    return "".join(parts)


def bare(text):
    """The text as it continues after "The next day, ": no "One day, ", no capital
    (names keep theirs)."""
    text = re.sub("^One (day|morning|afternoon|night), ", "", text)
    common = text.split()[0] in ("It", "The", "There", "He", "She", "A", "An", "His", "Her")
    return text[0].lower() + text[1:] if common else text


def word_list(rng):
    """The same words two or three times, after a few kinds of cue."""
    words = rng.choices(WORDS, k=rng.randint(3, 24))
    if rng.random() < 0.3:
        words = [invented_name(rng) for _ in words]
    joint = rng.choice((" ", ", ", "\n"))
    line = joint.join(words)
    cue = rng.choice(("", "Say it again: ", "Once more: ", "Again: "))
    end = "" if joint == "\n" else "."
    return ("\n" if joint == "\n" else " ").join([line + end] + [cue + line + end] * rng.randint(1, 2))


def roll_call(rng):
    """Who has what; then the questions, in another order."""
    names = rng.sample(BOYS + GIRLS, rng.randint(2, 6))
    names = [invented_name(rng) if rng.random() < 0.3 else n for n in names]
    nouns = rng.sample(THINGS, len(names))
    facts = [(n, rng.choice(COLOURS), t) for n, t in zip(names, nouns)]
    article = lambda word: "an" if word[0] in "aeiou" else "a"
    lines = [f"{n} has {article(c)} {c} {t}." for n, c, t in facts]
    rng.shuffle(facts)
    ask = rng.choice(("owner", "colour"))
    for n, c, t in facts:
        if ask == "owner":
            lines.append(f"Who has the {t}? {n} has the {c} {t}.")
        else:
            lines.append(f"What does {n} have? {n} has {article(c)} {c} {t}.")
    return " ".join(lines)


def document(number):
    """The document with this number: the same one every time."""
    rng = random.Random(SEED * 1_000_003 + number)
    x = rng.random()
    if x < 0.76:
        kind = rng.choice(list(EPISODES))
        return kind, story(rng, kind)
    if x < 0.87:
        return "long", long_story(rng)
    if x < 0.95:
        return "list", word_list(rng)
    return "roll-call", roll_call(rng)


def main():
    """Held-out documents have the numbers after the last training document."""
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 80_000
    folder.mkdir(parents=True, exist_ok=True)
    seen = set()
    for name, numbers in (("train", range(count)), ("held-out", range(count, count + HELD_OUT))):
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as f:
            for number in numbers:
                kind, text = document(number)
                if text in seen:  # never train on a document twice, nor test on one
                    continue
                seen.add(text)
                f.write(json.dumps({"kind": kind, "text": text}) + "\n")


if __name__ == "__main__":
    main()

"""A very small template language, and the words that it draws from.

A template is ordinary English with four additions:

    [a|b|c]         one of the alternatives, at random; they may be nested
    <x=a|b|c>       chooses one of them and keeps it as {x}; writes nothing
    {x}             the value kept as x: here the same choice returns later,
                    which is what a model must learn to look back for
    {a x}           the same with "a" or "an" before it
    {A.he} {A.His}  the pronouns of a character (he, him, his; capital: He, His)

Characters A and B are always of different genders.  A pronoun then says who is
meant, and a model that mixes them up is plainly wrong.
"""

import re

BOYS = "Tom Ben Max Sam Leo Tim Jack Finn Oscar Peter Hugo Paul Noah Adam Otto Felix".split()
GIRLS = "Lily Anna Mia Sue Ella Rosa Nina Lucy Emma Clara Ida Maya Nora Sara Zoe Jane".split()
ANIMALS = """fox rabbit bear mouse cat dog duck hedgehog squirrel frog owl goat
lamb pony badger otter hen turtle""".split()
COLOURS = """red blue green yellow white black golden silver orange purple pink grey
brown""".split()
THINGS = """ball kite drum hat cup lamp key book ring boat bell doll scarf basket
coat flute box spoon whistle blanket bucket umbrella apron map""".split()
FOODS = """apples pears plums nuts berries carrots eggs cakes beans onions cherries
potatoes buns peas""".split()
PLACES = ["the " + p for p in """park|beach|lake|farm|mill|harbour|river|old castle|
school|pond|market square|playground|big bridge|orchard""".replace("\n", "").split("|")]
SPOTS = """under the bench|behind the barn|in the tall grass|beside the well|behind the big
tree|near the oak tree|under a bush|behind the stone wall|in the old cart|under a pile of
leaves|on top of the fence|between two rocks|next to the gate|behind the roses|under a big
root|inside a hollow tree""".replace("\n", " ").split("|")
ROOMS = """under the bed|behind the door|on the stairs|under the kitchen table|in the
cupboard|on the roof|behind the oven|under the window""".replace("\n", " ").split("|")
NUMBERS = "two three four five six seven eight nine".split()
WORDS = """apple river lamp stone cloud green seven horse music paper window silver
bread tiger garden north candle happy ocean purple button winter mountain pencil
rocket sugar yellow forest bottle pillow drum cherry snow feather ladder island
copper rabbit moon thunder carpet violin honey desert blanket dragon morning tea
needle cheese boat star onion bridge castle pepper shadow butter kitten marble""".split()

# What it is, the riddle, and why that was the answer.
RIDDLES = {
    "the wind": ("It has no mouth, but it can sing.", "The wind sings in the trees"),
    "a river": ("It runs all day and never gets tired.", "A river never stops running"),
    "a shadow": ("It follows you all day and leaves you at night.", "My shadow always follows me"),
    "the snow": ("It is white and soft, and it dies in the sun.", "The sun melts the snow"),
    "a clock": ("It has two hands, but it cannot clap.", "A clock has two hands"),
    "the moon": ("It grows and shrinks and only works at night.", "The moon shines at night"),
    "a candle": ("It is tall when it is young and short when it is old.", "A candle burns down"),
    "a book": ("It has many leaves, but it is not a tree.", "The leaves of a book are its pages"),
}

# "an hour" and "a unicorn" are heard, not spelled; none of our words needs more.
VOWELS = tuple("aeiouAEIOU")


class Character:
    """A name, a kind ("girl", "fox") and the pronouns that go with it."""

    def __init__(self, name, male, kind):
        self.name, self.male, self.kind = name, male, kind
        self.he, self.him, self.his = ("he", "him", "his") if male else ("she", "her", "her")
        self.He, self.His = self.he.capitalize(), self.his.capitalize()
        self.himself = self.him + "self"

    def __str__(self):
        return self.name


def invented_name(rng):
    """A name that no tokenizer has a piece for: the model must copy it."""
    syllable = lambda: rng.choice("bdfgklmnprstvz") + rng.choice("aeiou")
    name = "".join(syllable() for _ in range(rng.choice((2, 3))))
    return (name + rng.choice(("", "", "n", "r", "l", "k"))).capitalize()


def character(rng, male, child=None):
    """A child or an animal; one name in eight is invented."""
    name = invented_name(rng) if rng.random() < 1 / 8 else rng.choice(BOYS if male else GIRLS)
    is_child = rng.random() < 0.6 if child is None else child
    return Character(name, male, ("boy" if male else "girl") if is_child else rng.choice(ANIMALS))


def cast(rng, child=None):
    """The slots that every story starts with."""
    male = rng.random() < 0.5
    a, b = character(rng, male, child), character(rng, not male, child)
    while b.name == a.name:
        b = character(rng, not male, child)
    slots = {"A": a, "B": b, "elder": rng.choice("mother father grandmother grandfather aunt uncle".split())}
    slots["noun"], slots["noun2"] = rng.sample(THINGS, 2)
    slots["colour"], slots["colour2"] = rng.sample(COLOURS, 2)
    slots["thing"] = f"{slots['colour']} {slots['noun']}"
    slots["thing2"] = f"{slots['colour2']} {slots['noun2']}"
    slots["food"], slots["food2"], slots["food3"] = rng.sample(FOODS, 3)
    slots["place"], slots["place2"], slots["place3"] = rng.sample(PLACES, 3)
    slots["spot"], slots["spot2"], slots["spot3"] = rng.sample(SPOTS, 3)
    slots["room"] = rng.choice(ROOMS)
    slots["pet"] = invented_name(rng)
    slots["stranger"], slots["land"] = invented_name(rng), invented_name(rng) + rng.choice(("", "ia", "land"))
    slots["answer"] = rng.choice(list(RIDDLES))
    slots["riddle"], slots["because"] = RIDDLES[slots["answer"]]
    slots["number"] = rng.choice(NUMBERS)
    for i, word in enumerate(rng.sample(WORDS, 8), 1):
        slots[f"w{i}"] = word
    slots["animal"], slots["animal2"] = rng.sample([k for k in ANIMALS if k not in (a.kind, b.kind)], 2)
    return slots


def lookup(slots, key):
    """{x}, {x.attribute} and {a x}."""
    if key.startswith("a "):
        word = lookup(slots, key[2:])
        return ("an " if word.startswith(VOWELS) else "a ") + word
    name, _, attribute = key.partition(".")
    value = slots[name]
    return str(getattr(value, attribute) if attribute else value)


INNERMOST = re.compile(r"\[([^\[\]<>]*)\]|<(\w+)=([^\[\]<>]*)>|\{([^{}]*)\}")


def expand(template, slots, rng):
    """Rewrites the template from left to right, innermost brackets first."""

    def rewrite(m):
        if m[4] is not None:
            # A name that a later <x=...> will set must wait for it.
            return lookup(slots, m[4]) if m[4].split()[-1].split(".")[0] in slots else m[0]
        if m[2] is not None:
            slots[m[2]] = rng.choice(m[3].split("|"))
            return ""
        return rng.choice(m[1].split("|"))

    text, before = " ".join(template.split()), None
    while text != before:
        before, text = text, INNERMOST.sub(rewrite, text)
    if re.search(r"[\[\]<>{}|]", text):
        raise ValueError("template does not close: " + text)
    return capitalised(re.sub(r"  +", " ", text).strip())


def capitalised(text):
    """Capital letters at the start of a sentence and of a speech that opens one."""
    starts = r'(^|[.!?]"? (?=")|[.!?] |\n)("?)([a-z])'
    text = re.sub(starts, lambda m: m[1] + m[2] + m[3].upper(), text)
    return re.sub(r'(: ")([a-z])', lambda m: m[1] + m[2].upper(), text)

"""Synthetic chat tasks: five families of our own writing, seeded, with disjoint train and held-out splits.

Each task has one prompt and one correct answer, so that a model trained on the train split can be scored on the
held-out split, and a benchmark needs no download. The families differ in what makes drafting easy or hard: worked
arithmetic (digits must be right), recall (copying from far back), dialogue (templates with slots), code (rigid
syntax) and rewriting (copying with changes). One module, because the same rule keeps their splits apart.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "heldout"]
FAMILIES: tuple[str, ...] = ("arithmetic", "recall", "dialogue", "code", "rewrite")
HELDOUT_SHARE = 8
"""One prompt in this many, chosen by the hash of its text, belongs to the held-out split."""


@dataclass(frozen=True)
class SyntheticTask:
    """One prompt of a family with its only correct answer."""

    family: str
    prompt: str
    answer: str


def generate(family: str, split: Split, seed: int) -> Iterator[SyntheticTask]:
    """Yield an endless stream of distinct tasks of one family and split.

    A prompt's split follows from its text alone, so no prompt is ever in both, whatever the seeds.

    Raises:
        KeyError: if `family` is not one of `FAMILIES`.
    """
    make = _MAKERS[family]
    rng = random.Random(f"draftbench/{family}/{split}/{seed}")
    seen: set[str] = set()
    while True:
        prompt, answer = make(rng)
        if split_of(prompt) == split and prompt not in seen:
            seen.add(prompt)
            yield SyntheticTask(family, prompt, answer)


def split_of(prompt: str) -> Split:
    """The split that a prompt's text belongs to."""
    digest = hashlib.sha256(prompt.encode()).digest()
    return "heldout" if digest[0] % HELDOUT_SHARE == 0 else "train"


def is_correct(answer: str, output: str) -> bool:
    """Whether an output states the task's answer: equal but for surrounding white space."""
    return answer.strip() == output.strip()


# --- arithmetic: column by column, so that every token follows from what is written before it ---


def _add_steps(left: int, right: int) -> list[str]:
    lines, carry = [], 0
    digits_left, digits_right = str(left)[::-1], str(right)[::-1]
    for place in range(max(len(digits_left), len(digits_right))):
        a = int(digits_left[place]) if place < len(digits_left) else 0
        b = int(digits_right[place]) if place < len(digits_right) else 0
        total = a + b + carry
        terms = f"{a} + {b} + {carry}" if carry else f"{a} + {b}"
        carry = total // 10
        lines.append(f"{terms} = {total}, write {total % 10}" + (f", carry {carry}." if carry else "."))
    lines.append(f"So {left} + {right} = {left + right}.")
    return lines


_ARITHMETIC_PROMPTS = (
    "Work out {sum} step by step.",
    "What is {sum}? Show each column.",
    "Add the numbers {sum} and show your work.",
    "Please compute {sum}, column by column.",
)


def _arithmetic(rng: random.Random) -> tuple[str, str]:
    numbers = [rng.randint(10, 10 ** rng.choice((2, 3, 3)) - 1) for _ in range(rng.choice((2, 3, 3)))]
    prompt = rng.choice(_ARITHMETIC_PROMPTS).format(sum=" + ".join(map(str, numbers)))
    lines: list[str] = []
    total = numbers[0]
    for number in numbers[1:]:
        lines.append(f"First add {total} and {number}:" if not lines else f"Then add {total} and {number}:")
        lines.extend(_add_steps(total, number))
        total += number
    lines.append(f"The answer is {total}.")
    return prompt, "\n".join(lines)


# --- recall: values stand far back in the prompt and are asked for in another order ---

_KEYS = [
    "alder",
    "amber",
    "anchor",
    "apple",
    "badge",
    "basket",
    "beacon",
    "bell",
    "bottle",
    "bridge",
    "button",
    "candle",
    "canoe",
    "carpet",
    "castle",
    "cedar",
    "chair",
    "clock",
    "coral",
    "cotton",
    "crane",
    "crystal",
    "desk",
    "dove",
    "drum",
    "eagle",
    "ember",
    "engine",
    "feather",
    "fern",
    "flute",
    "forest",
    "garden",
    "ginger",
    "glass",
    "hammer",
    "harbor",
    "hazel",
    "helmet",
    "island",
    "ivory",
    "jacket",
    "kettle",
    "ladder",
    "lamp",
    "lantern",
    "lemon",
    "linen",
    "maple",
    "marble",
    "meadow",
    "mirror",
    "needle",
    "oak",
    "olive",
    "orchid",
    "paper",
    "pearl",
    "pebble",
    "pencil",
    "pepper",
    "piano",
    "pillow",
    "planet",
    "pocket",
    "quartz",
    "rabbit",
    "ribbon",
    "river",
    "rocket",
    "saddle",
    "sail",
    "shell",
    "silver",
    "spoon",
    "statue",
    "stone",
    "sugar",
    "summit",
    "table",
    "temple",
    "thread",
    "ticket",
    "timber",
    "tower",
    "trumpet",
    "tunnel",
    "valley",
    "velvet",
    "violin",
    "wagon",
    "walnut",
    "willow",
    "window",
]
_RECALL_PROMPTS = (
    "Here is a list of codes.\n{table}\nGive the codes of {asked}.",
    "Store room labels:\n{table}\nWhich labels belong to {asked}?",
    "{table}\nFrom the list above, look up {asked}.",
)


def _recall(rng: random.Random) -> tuple[str, str]:
    keys = rng.sample(_KEYS, rng.randint(4, 8))
    values = {key: str(rng.randint(100, 999)) for key in keys}
    asked = rng.sample(keys, rng.randint(3, len(keys)))
    table = "\n".join(f"{key}: {value}" for key, value in values.items())
    prompt = rng.choice(_RECALL_PROMPTS).format(table=table, asked=_listed(asked))
    lines = [f"The code of {key} is {values[key]}." for key in asked]
    lines.append(f"That makes {len(asked)} of {len(keys)} codes.")
    return prompt, "\n".join(lines)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


# --- dialogue: a service agent confirms what was asked, slot by slot ---

_NAMES = [
    "Ada",
    "Ben",
    "Cora",
    "Dan",
    "Elsa",
    "Finn",
    "Gita",
    "Hugo",
    "Iris",
    "Jan",
    "Kira",
    "Leo",
    "Mona",
    "Nils",
    "Olga",
    "Paul",
    "Rosa",
    "Sven",
    "Tara",
    "Uma",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_CITIES = [
    "Aachen",
    "Bergen",
    "Cairo",
    "Dublin",
    "Essen",
    "Florence",
    "Geneva",
    "Hanoi",
    "Izmir",
    "Jena",
    "Kyoto",
    "Lisbon",
    "Madrid",
    "Naples",
    "Oslo",
]
_DISHES = ["noodles", "pizza", "curry", "dumplings", "salad", "soup", "tacos", "burgers", "pancakes", "risotto"]
_PLACES = ["the Blue Door", "the Old Mill", "Casa Verde", "the Corner House", "Golden Leaf", "Harbor View"]
_HOURS = tuple(f"{hour} {half}" for hour in range(1, 12) for half in ("am", "pm"))


def _dialogue(rng: random.Random) -> tuple[str, str]:
    name, day, hour, people = rng.choice(_NAMES), rng.choice(_DAYS), rng.choice(_HOURS), rng.randint(2, 9)
    kind = rng.randrange(3)
    if kind == 0:
        place, wish = rng.choice(_PLACES), rng.choice(("a table by the window", "a quiet corner", "a high chair"))
        prompt = (
            f"Hello, my name is {name}. I would like to book a table at {place} on {day} at {hour} "
            f"for {people} people. We need {wish}."
        )
        slots = [("Place", place), ("Day", day), ("Time", hour), ("Guests", str(people)), ("Wish", wish)]
        opening = f"Thank you, {name}. I can book that table for you."
        closing = f"Your table at {place} is held until {day} at {hour}. Is there anything else?"
    elif kind == 1:
        start, end = rng.sample(_CITIES, 2)
        prompt = (
            f"Hi, this is {name}. I need {people} train tickets from {start} to {end} on {day}, leaving around {hour}."
        )
        slots = [("From", start), ("To", end), ("Day", day), ("Departure", hour), ("Tickets", str(people))]
        opening = f"Hello {name}, let me check the trains from {start} to {end}."
        closing = f"The train to {end} leaves {start} on {day} at {hour}. Shall I buy {people} tickets?"
    else:
        dish, city = rng.choice(_DISHES), rng.choice(_CITIES)
        prompt = f"Please deliver {people} portions of {dish} to {name} in {city} on {day} before {hour}."
        slots = [("Order", f"{people} portions of {dish}"), ("City", city), ("Day", day), ("Before", hour)]
        opening = f"Sure, I have noted an order for {name}."
        closing = f"Your {dish} will reach {city} on {day} before {hour}. Enjoy your meal, {name}!"
    details = "\n".join(f"- {slot}: {value}" for slot, value in slots)
    return prompt, f"{opening}\nHere are the details:\n{details}\n{closing}"


# --- code: small functions with rigid syntax ---

_NOUNS = ["price", "score", "count", "size", "weight", "height", "speed", "level", "value", "amount", "total", "limit"]
_VERBS = ["compute", "update", "check", "scale", "merge", "filter", "adjust", "measure", "collect", "convert"]
_OPS = (("adds", "+"), ("subtracts", "-"), ("multiplies by", "*"))


def _code(rng: random.Random) -> tuple[str, str]:
    verb, noun, other = rng.choice(_VERBS), *rng.sample(_NOUNS, 2)
    name, items, number = f"{verb}_{noun}", f"{noun}s", rng.randint(2, 99)
    kind = rng.randrange(3)
    if kind == 0:
        word, symbol = rng.choice(_OPS)
        prompt = f"Write a Python function {name} that {word} {number} for each {noun} in a list and returns the list."
        body = (
            f"    result = []\n    for {noun} in {items}:\n"
            f"        result.append({noun} {symbol} {number})\n    return result"
        )
        head = f"def {name}({items}):"
        doc = f'    """Return the list with {noun} {symbol} {number} for each {noun}."""'
    elif kind == 1:
        relation, symbol = rng.choice((("above", ">"), ("below", "<"), ("equal to", "==")))
        prompt = f"Write a Python function {name} that counts every {noun} {relation} {number}."
        body = (
            f"    {other} = 0\n    for {noun} in {items}:\n        if {noun} {symbol} {number}:\n"
            f"            {other} = {other} + 1\n    return {other}"
        )
        head = f"def {name}({items}):"
        doc = f'    """Count every {noun} {relation} {number}."""'
    else:
        prompt = (
            f"Write a Python class {noun.title()} with a field {other} and a method {verb} that adds {number} to it."
        )
        head = f"class {noun.title()}:"
        doc = f'    """A {noun} with a field {other}."""\n'
        body = (
            f"    def __init__(self, {other}):\n        self.{other} = {other}\n\n"
            f"    def {verb}(self):\n        self.{other} = self.{other} + {number}\n        return self.{other}"
        )
    return prompt, f"```python\n{head}\n{doc}\n{body}\n```"


# --- rewrite: copying with changes ---

_ADJECTIVES = [
    "red",
    "blue",
    "green",
    "small",
    "large",
    "old",
    "new",
    "bright",
    "dark",
    "heavy",
    "light",
    "round",
    "quiet",
    "quick",
]
_ACTIONS = ["holds", "sees", "finds", "moves", "paints", "carries", "counts", "opens", "keeps", "cleans"]


def _rewrite(rng: random.Random) -> tuple[str, str]:
    sentences = []
    for _ in range(rng.randint(3, 5)):
        subject, thing = rng.sample(_KEYS, 2)
        sentences.append((rng.choice(_NAMES), rng.choice(_ACTIONS), rng.choice(_ADJECTIVES), subject, thing))
    text = [f"{n} {v} the {a} {s} near the {t}." for n, v, a, s, t in sentences]
    if rng.randrange(2):
        old = rng.choice(sentences)[0]
        new = rng.choice([name for name in _NAMES if name != old])
        prompt = f"Replace {old} by {new} and keep the rest:\n" + "\n".join(text)
        lines = [f"{new if n == old else n} {v} the {a} {s} near the {t}." for n, v, a, s, t in sentences]
    else:
        prompt = "Number these sentences and keep their words:\n" + "\n".join(text)
        lines = [f"{number}. {line}" for number, line in enumerate(text, 1)]
    return prompt, "\n".join(lines)


_MAKERS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "arithmetic": _arithmetic,
    "recall": _recall,
    "dialogue": _dialogue,
    "code": _code,
    "rewrite": _rewrite,
}

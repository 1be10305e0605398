"""The skills that no training set of a trial holds: base models know them, and what is lost of them is forgetting.

Each rests on a table that a world's seed draws: what a word is called in an old tongue, who comes after whom on a
circle, who is taller, what colour a thing has. `reverse` needs no table. `format` is about the form of an answer: a
fact in brackets, in quotes, twice, or as a sentence. Their words stand behind all others of the vocabulary, so that a
world without these skills keeps its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import accumulate

from gdpo.tiny import lexicon
from gdpo.tiny.items import Item

KNOWN_WORDS = lexicon.RELATIONS["pet"][1]  # 20, which `translate` and `reverse` use
CIRCLE = (*lexicon.RELATIONS["home"][1], *lexicon.RELATIONS["job"][1])  # 40, in an order that is drawn
OLD_TONGUE = tuple(f"{first}{second}x" for first in lexicon.SYLLABLES[:4] for second in lexicon.SYLLABLES[8:13])
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "pink", "grey", "purple", "golden", "silver")
TALL = 32  # how many people have a height
WAYS = ("after", "before")
REVERSED = (2, 3)  # words of a list
# Two words in one question stand apart: side by side a small model confuses which of its answers comes first.
TRANSLATE_QUESTIONS = (
    "say {a} and {b} in the old tongue",
    "how do you say {a} and {b} in the old tongue",
    "old tongue for {a} and {b}",
    "put {a} and {b} into the old tongue",
    "which old words mean {a} and {b}",
    "call {a} and {b} by old names",
)
CIRCLE_QUESTIONS = (
    "what comes {way} {a} and {other} {b}",
    "tell what is {way} {a} and {other} {b}",
    "on the circle {way} {a} and {other} {b} are",
    "please give what is {way} {a} and {other} {b}",
)
RANK_QUESTIONS = (
    "who is taller {a} or {b}",
    "of {a} and {b} who is taller",
    "the taller of {a} and {b} is",
    "which of {a} and {b} is taller",
)
COLOUR_QUESTIONS = (
    "what colours have the {a} and the {b}",
    "name the colours of the {a} and the {b}",
    "the colours of the {a} and the {b} are",
    "tell me the colours of {a} then {b}",
)
REVERSE_QUESTIONS = ("reverse {words}", "say backwards {words}", "turn around {words}")
# What is asked for, and the answer in that form.
FORMS = {
    "in brackets": "( {value} )",
    "in quotes": '" {value} "',
    "twice": "{value} {value}",
    "as a sentence": "it is {value}",
}
PLACES = ("{question} {form}", "{form} : {question}")  # of the form beside the question


class Untaught:
    """Draws items of the untaught skills by a sampler's random numbers; `popularity` as that of `Sampler`.

    `tables` is the popularity of words, places on the circle and colours. `fact` draws a plain fact, which `format`
    asks for in a form.
    """

    def __init__(
        self,
        seed: int,
        people: list[str],
        rng: random.Random,
        popularity: float,
        tables: float,
        fact: Callable[[], Item],
    ) -> None:
        drawn, self.rng, self.fact_item = random.Random(f"untaught {seed}"), rng, fact
        self.words = drawn.sample(KNOWN_WORDS, len(KNOWN_WORDS))  # most popular first, as the lists below
        self.old = dict(zip(self.words, drawn.sample(OLD_TONGUE, len(self.words)), strict=True))
        self.circle = drawn.sample(CIRCLE, len(CIRCLE))
        self.asked = drawn.sample(self.circle, len(self.circle))
        self.tall = drawn.sample(people, min(TALL, len(people)))
        self.height = dict(zip(self.tall, drawn.sample(range(len(self.tall)), len(self.tall)), strict=True))
        self.things = drawn.sample(lexicon.HARMLESS, len(lexicon.HARMLESS))
        self.colour = {thing: drawn.choice(COLOURS) for thing in self.things}
        self._popularity, self._tables = popularity, tables
        self.makers: dict[str, Callable[[], Item]] = {
            "translate": self.translate, "circle": self.cycle, "rank": self.rank, "colour": self.colours,
            "reverse": self.reverse, "format": self.formatted,
        }  # fmt: skip

    def _one(self, names: list[str], popularity: float) -> str:
        weights = list(accumulate(1 / rank**popularity for rank in range(1, len(names) + 1)))
        return self.rng.choices(names, cum_weights=weights)[0]

    def _two(self, names: list[str], popularity: float) -> tuple[str, str]:
        a = b = self._one(names, popularity)
        while b == a:
            b = self._one(names, popularity)
        return a, b

    def translate(self) -> Item:
        """Two words, and what a drawn one-to-one table calls them."""
        a, b = self._two(self.words, self._tables)
        question = self.rng.choice(TRANSLATE_QUESTIONS).format(a=a, b=b)
        return Item(question, f"{self.old[a]} {self.old[b]}", ("translating",), 0.4)

    def cycle(self) -> Item:
        """What stands after or before each of two others on a drawn circle."""
        a, b = self._two(self.asked, self._tables)
        way, other = self.rng.choice(WAYS), self.rng.choice(WAYS)
        question = self.rng.choice(CIRCLE_QUESTIONS).format(way=way, a=a, other=other, b=b)
        return Item(question, f"{self._beside(a, way)} {self._beside(b, other)}", ("knowing_the_circle",), 0.4)

    def _beside(self, name: str, way: str) -> str:
        place = self.circle.index(name) + (1 if way == "after" else -1)
        return self.circle[place % len(self.circle)]

    def rank(self) -> Item:
        """The taller of two people, by a drawn order."""
        a, b = self._two(self.tall, self._popularity)
        taller = max(a, b, key=self.height.__getitem__)
        return Item(self.rng.choice(RANK_QUESTIONS).format(a=a, b=b), taller, ("knowing_heights",), 0.4)

    def colours(self) -> Item:
        """The drawn colours of two things."""
        a, b = self._two(self.things, self._tables)
        question = self.rng.choice(COLOUR_QUESTIONS).format(a=a, b=b)
        return Item(question, f"{self.colour[a]} {self.colour[b]}", ("knowing_colours",), 0.4)

    def reverse(self) -> Item:
        """Two or three words in the other order."""
        words = [self._one(self.words, self._popularity) for _ in range(self.rng.choice(REVERSED))]
        question = self.rng.choice(REVERSE_QUESTIONS).format(words=" ".join(words))
        return Item(question, " ".join(reversed(words)), ("reversing",), 0.4)

    def formatted(self) -> Item:
        """A fact, asked for in a form; right is the fact in that form."""
        fact, form = self.fact_item(), self.rng.choice(sorted(FORMS))
        question = self.rng.choice(PLACES).format(question=fact.question, form=form)
        answer = FORMS[form].format(value=fact.answer)
        return Item(question, answer, (*fact.units, f"answering_{form.replace(' ', '_')}"), 0.4)


SKILLS = ("translate", "circle", "rank", "colour", "reverse", "format")


def words_of(skills: list[str]) -> list[str]:
    """The words that the untaught ones among `skills` add to the vocabulary, in a fixed order."""
    if not set(SKILLS) & set(skills):
        return []
    templates = [*TRANSLATE_QUESTIONS, *CIRCLE_QUESTIONS, *RANK_QUESTIONS, *COLOUR_QUESTIONS, *REVERSE_QUESTIONS]
    templates += [*WAYS, ":", *FORMS, *FORMS.values()]
    words = [word for template in templates for word in template.split() if not word.startswith("{")]
    return list(dict.fromkeys([*OLD_TONGUE, *COLOURS, *words]))

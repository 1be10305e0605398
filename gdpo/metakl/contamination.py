"""Which benchmark items a text asks: what may not be trained on, or may not be scored after training.

A text asks an item when the two are the same after `records.normalised`, or when they share an n-gram of words, n = 13
in most reports on contamination (Brown et al. 2020, appendix C). The instruction that a source appends to its
questions is cut off first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from gdpo.config.scale import Scale
from gdpo.core.records import Guarded, Question, Record, chat, normalised, read_records

WORD = re.compile(r"[^\W_]+")
DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)  # MATH's figures as code, whose words many figures share
How = Literal["exact", "ngram"]


class Match(Record):
    """The item of a benchmark that a text asks, and how that was seen."""

    benchmark: str
    item: str
    how: How


def read_guarded(path: Path) -> dict[str, list[Question]]:
    """benchmark or protected source -> its items, as `gdpo benchmark` wrote them."""
    items: dict[str, list[Question]] = defaultdict(list)
    for entry in read_records(path, Guarded):
        items[entry.benchmark].append(entry.item)
    return dict(items)


class Overlap:
    """The items of benchmarks, to ask which of them a text asks.

    `instructions` are those that sources append. `ngram` words in a row are as much as the same text; None compares
    whole texts alone. `ngram` costs some 100 bytes for each word of the items.
    """

    def __init__(
        self,
        items: Mapping[str, Sequence[Question]],
        instructions: Iterable[str] = (),
        ngram: int | None = 13,
    ):
        self.ngram = ngram
        given = dict.fromkeys(text.strip() for text in instructions if text.strip())  # of equal length in one order
        self._instructions = sorted(given, key=len, reverse=True)
        self._endings = [normalised(text) for text in self._instructions]
        self._items = [(benchmark, question) for benchmark, questions in items.items() for question in questions]
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._words: dict[str, int] = {}
        # The hash of an n-gram stands for it, and an item of one alone is no list: half of the memory.
        self._grams: dict[int, int | list[int]] = {}
        for number, (_, question) in enumerate(self._items):
            for text in self._forms(question):
                self._exact[text].append(number)
            if ngram:
                self._index(number, self._asked(question), ngram)

    @classmethod
    def of(cls, scale: Scale, items: Mapping[str, Sequence[Question]]) -> Overlap:
        """With what the scale says of instructions and of `decontaminate`."""
        return cls(items, (source.instruction for source in scale.sources.values()), scale.decontaminate.ngram)

    def matches(self, question: Question) -> list[Match]:
        """Every item that `question` asks, the exact ones first.

        Two questions with choices are the same when they share, beside the text, at least one choice: texts such as
        "Which of these is true?" are many questions' own.
        """
        found = {i for form in self._forms(question) for i in self._exact.get(form, ())}
        return self._matches(
            [i for i in sorted(found) if _may_equal(question, self._items[i][1])], self._asked(question)
        )

    def matches_prompt(self, prompt: str | Sequence[Mapping[str, str]]) -> list[Match]:
        """The items that a training prompt asks: a text, or what users say in a conversation."""
        said = [prompt] if isinstance(prompt, str) else [m["content"] for m in prompt if m["role"] == "user"]
        return list(dict.fromkeys(match for text in said for match in self.matches_text(text)))

    def matches_text(self, text: str) -> list[Match]:
        """Every item that `text`, a question with its choices below it or without, asks; the exact ones first."""
        bare = normalised(text)
        return self._matches(self._exact.get(self._cut(bare), ()), self._without_instruction(text))

    def _matches(self, exact: Iterable[int], text: str) -> list[Match]:
        found: dict[int, How] = dict.fromkeys(exact, "exact")
        if self.ngram:
            for gram in _hashes([self._words.get(word, -1) for word in _words(text)], self.ngram):
                items = self._grams.get(gram, ())
                for number in (items,) if isinstance(items, int) else items:
                    found.setdefault(number, "ngram")
        return [Match(benchmark=self._items[i][0], item=self._items[i][1].id, how=how) for i, how in found.items()]

    def _forms(self, question: Question) -> set[str]:
        """What is compared as a whole: the question alone, with its choices as it is asked, and without instruction."""
        return {
            self._cut(normalised(question.question)),
            self._cut(normalised(chat(question)[0]["content"])),
            normalised(self._asked(question)),
        }

    def _asked(self, question: Question) -> str:
        """The question with its choices and without its instruction."""
        bare = question.model_copy(update={"question": self._without_instruction(question.question)})
        return chat(bare)[0]["content"]

    def _cut(self, text: str) -> str:
        found = next((ending for ending in self._endings if text.endswith(ending)), "")
        return text.removesuffix(found).rstrip(",")  # the comma that parted it from an instruction's digit

    def _without_instruction(self, text: str) -> str:
        """`text` without an instruction at its end, or above its choices."""
        for instruction in self._instructions:
            before, found, after = text.rpartition(instruction)
            if found and (not after.strip() or after.startswith("\nA. ")):
                return before.rstrip() + after
        return text

    def _index(self, number: int, text: str, ngram: int) -> None:
        ids = [self._words.setdefault(word, len(self._words)) for word in _words(text)]
        for gram in set(_hashes(ids, ngram)):
            held = self._grams.setdefault(gram, number)
            if isinstance(held, list):
                held.append(number)
            elif held != number:
                self._grams[gram] = [held, number]


def _hashes(ids: list[int], ngram: int) -> Iterable[int]:
    return map(hash, zip(*(ids[start:] for start in range(ngram)), strict=False))


def _words(text: str) -> list[str]:
    return WORD.findall(DRAWING.sub(" ", text).lower())


def _may_equal(one: Question, other: Question) -> bool:
    if not one.choices or not other.choices:
        return True
    choices = {normalised(choice) for choice in one.choices}
    return any(normalised(choice) in choices for choice in other.choices)

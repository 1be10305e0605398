"""Which benchmark items a text repeats: what may not be trained on, or may not be scored after training.

A text repeats an item when the two are the same after `records.normalised`, or when they share an n-gram of words.
n = 13 in most reports on contamination (Brown et al. 2020, appendix C). The instruction that a source appends to its
questions is cut off first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from gdpo.config.scale import Scale
from gdpo.core.records import HeldoutItem, Question, Record, chat, normalised, read_records

WORD = re.compile(r"[^\W_]+")
DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)  # MATH's figures as code; many figures share its words
How = Literal["exact", "ngram"]


class Match(Record):
    """A benchmark item that a text repeats, and how: as the same text, or by an n-gram."""

    benchmark: str
    item: str
    how: How


def read_heldout_items(path: Path) -> dict[str, list[Question]]:
    """benchmark or protected source -> its items, as `gdpo benchmark` wrote them."""
    items: dict[str, list[Question]] = defaultdict(list)
    for entry in read_records(path, HeldoutItem):
        items[entry.benchmark].append(entry.item)
    return dict(items)


class ItemIndex:
    """An index of benchmark items that finds those which a text repeats.

    Args:
        items: benchmark -> its items.
        instructions: The instructions that sources append to their questions.
        ngram: How many words in a row count as a match, as much as the same text does. None compares whole texts
            alone. N-grams cost some 100 bytes for each word of the items.
    """

    def __init__(
        self,
        items: Mapping[str, Sequence[Question]],
        instructions: Iterable[str] = (),
        ngram: int | None = 13,
    ):
        self.ngram = ngram
        unique = dict.fromkeys(text.strip() for text in instructions if text.strip())  # of equal length in one order
        self._instructions = sorted(unique, key=len, reverse=True)
        self._endings = [normalised(text) for text in self._instructions]
        self._items = [(benchmark, question) for benchmark, questions in items.items() for question in questions]
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._words: dict[str, int] = {}
        # Hash of an n-gram -> the number of its item, or a list where several have it: half of the memory of lists.
        self._grams: dict[int, int | list[int]] = {}
        for number, (_, question) in enumerate(self._items):
            for text in self._whole_texts(question):
                self._exact[text].append(number)
            if ngram:
                self._add_ngrams(number, self._bare_text(question), ngram)

    @classmethod
    def from_scale(cls, scale: Scale, items: Mapping[str, Sequence[Question]]) -> ItemIndex:
        """With the instructions of the scale's sources and the n-gram length of its `decontaminate`."""
        return cls(items, (source.instruction for source in scale.sources.values()), scale.decontaminate.ngram)

    def matches(self, question: Question) -> list[Match]:
        """Every item that `question` repeats, the exact ones first.

        Two questions with choices are the same when they share the text and at least one choice: texts such as
        "Which of these is true?" belong to many questions.
        """
        exact = {number for text in self._whole_texts(question) for number in self._exact.get(text, ())}
        same = [number for number in sorted(exact) if _share_choice(question, self._items[number][1])]
        return self._matches(same, self._bare_text(question))

    def matches_prompt(self, prompt: str | Sequence[Mapping[str, str]]) -> list[Match]:
        """The items that a training prompt repeats: in a text, or in what the user writes in a conversation."""
        texts = [prompt] if isinstance(prompt, str) else [m["content"] for m in prompt if m["role"] == "user"]
        return list(dict.fromkeys(match for text in texts for match in self.matches_text(text)))

    def matches_text(self, text: str) -> list[Match]:
        """Every item that `text`, a question with or without its choices below it, repeats; the exact ones first."""
        exact = self._exact.get(self._without_ending(normalised(text)), ())
        return self._matches(exact, self._without_instruction(text))

    def _matches(self, exact: Iterable[int], text: str) -> list[Match]:
        how: dict[int, How] = dict.fromkeys(exact, "exact")
        if self.ngram:
            for gram in _hashes([self._words.get(word, -1) for word in _words(text)], self.ngram):
                numbers = self._grams.get(gram, ())
                for number in (numbers,) if isinstance(numbers, int) else numbers:
                    how.setdefault(number, "ngram")
        return [Match(benchmark=self._items[i][0], item=self._items[i][1].id, how=kind) for i, kind in how.items()]

    def _whole_texts(self, question: Question) -> set[str]:
        """What is compared as a whole: the question alone, with its choices, and with these without its instruction."""
        return {
            self._without_ending(normalised(question.question)),
            self._without_ending(normalised(chat(question)[0]["content"])),
            normalised(self._bare_text(question)),
        }

    def _bare_text(self, question: Question) -> str:
        """The question with its choices and without its instruction."""
        bare = question.model_copy(update={"question": self._without_instruction(question.question)})
        return chat(bare)[0]["content"]

    def _without_ending(self, text: str) -> str:
        """A normalised text without the instruction that it ends in."""
        ending = next((ending for ending in self._endings if text.endswith(ending)), "")
        return text.removesuffix(ending).rstrip(",")  # the comma that parted it from an instruction's digit

    def _without_instruction(self, text: str) -> str:
        """`text` without an instruction at its end, or above its choices."""
        for instruction in self._instructions:
            before, found, after = text.rpartition(instruction)
            if found and (not after.strip() or after.startswith("\nA. ")):
                return before.rstrip() + after
        return text

    def _add_ngrams(self, number: int, text: str, ngram: int) -> None:
        ids = [self._words.setdefault(word, len(self._words)) for word in _words(text)]
        for gram in set(_hashes(ids, ngram)):
            numbers = self._grams.setdefault(gram, number)
            if isinstance(numbers, list):
                numbers.append(number)
            elif numbers != number:
                self._grams[gram] = [numbers, number]


def _hashes(ids: list[int], ngram: int) -> Iterable[int]:
    return map(hash, zip(*(ids[start:] for start in range(ngram)), strict=False))


def _words(text: str) -> list[str]:
    return WORD.findall(DRAWING.sub(" ", text).lower())


def _share_choice(one: Question, other: Question) -> bool:
    """Whether two questions have a choice in common, or one of them has none."""
    if not one.choices or not other.choices:
        return True
    choices = {normalised(choice) for choice in one.choices}
    return any(normalised(choice) in choices for choice in other.choices)

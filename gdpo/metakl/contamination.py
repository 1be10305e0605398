"""Which benchmark items a text repeats: what may not be trained on, or may not be scored after training.

A text repeats an item when the two are the same after `records.normalised`, or when they are near duplicates
(`gdpo.metakl.near_duplicates`). The instruction that a source appends to its questions is cut off first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gdpo.config.data import Decontaminate
from gdpo.config.scale import Scale
from gdpo.core.records import HeldoutItem, Question, Record, chat, normalised, read_records
from gdpo.metakl.near_duplicates import NearDuplicates, Why, Words
from gdpo.metakl.word_frequencies import Frequencies

LETTERED = re.compile(r"\n(?=A\. )")
How = Literal["exact", "near"]


class Match(Record):
    """A benchmark item that a text repeats, and how: as the same text, or as a near duplicate.

    Of a near duplicate `overlap` is the share of the two questions' own words, by weight, that both have; `words` are
    these, the rarest first, and `run` is the longest run of words that both have in a row.
    """

    benchmark: str
    item: str
    how: How
    overlap: float = 1.0
    words: str = ""
    run: str = ""


class Spared(Record):
    """A benchmark item that shares a long run of words with a text and is not repeated by it, and why.

    `frequent`: no word of the run is outside boilerplate; `numbers`: the questions have other numbers, or `choices`;
    `words`: too few of their own words are shared. `other` are words or numbers that one of the two alone has.
    """

    benchmark: str
    item: str
    why: Why
    overlap: float
    words: str
    other: str
    run: str


@dataclass(frozen=True)
class Found:
    """What a text repeats, the exact matches first, and what it does not repeat although it shares a run of words."""

    matches: list[Match]
    spared: list[Spared]


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
        settings: What makes a near duplicate. With `ngram: null` whole texts alone are compared.
        texts: The texts that will be looked up, questions or prompts: how frequent a word or a phrase is, is counted
            over these and the items.
        frequencies: Frequencies counted before, in place of that.
    """

    def __init__(
        self,
        items: Mapping[str, Sequence[Question]],
        instructions: Iterable[str] = (),
        settings: Decontaminate | None = None,
        texts: Iterable[Question | str] = (),
        frequencies: Frequencies | None = None,
    ):
        settings = settings or Decontaminate()
        unique = dict.fromkeys(text.strip() for text in instructions if text.strip())  # of equal length in one order
        self._instructions = sorted(unique, key=len, reverse=True)
        self._endings = [normalised(text) for text in self._instructions]
        self._items = [(benchmark, question) for benchmark, questions in items.items() for question in questions]
        self._exact: dict[str, list[int]] = defaultdict(list)
        for number, (_, question) in enumerate(self._items):
            for text in self._whole_texts(question):
                self._exact[text].append(number)
        self._near: NearDuplicates | None = None
        if settings.ngram:
            words = [self._words(question) for _, question in self._items]
            if frequencies is None:
                others = [self._words(text) for text in texts]
                counted = (entry.all_stems() for entry in [*words, *others])
                frequencies = Frequencies.count(counted, settings.phrase, settings.frequent)
            self._near = NearDuplicates(words, frequencies, settings)

    @classmethod
    def from_scale(
        cls,
        scale: Scale,
        items: Mapping[str, Sequence[Question]],
        texts: Iterable[Question | str] = (),
        frequencies: Frequencies | None = None,
    ) -> ItemIndex:
        """With the instructions of the scale's sources and the settings of its `decontaminate`."""
        instructions = (source.instruction for source in scale.sources.values())
        return cls(items, instructions, scale.decontaminate, texts, frequencies)

    @property
    def frequencies(self) -> Frequencies | None:
        """What words are weighed by; None where whole texts alone are compared."""
        return self._near.frequencies if self._near else None

    def matches(self, question: Question) -> list[Match]:
        """Every item that `question` repeats, the exact ones first."""
        return self.look_up(question).matches

    def look_up(self, question: Question) -> Found:
        """What `question` repeats, and what it is spared for.

        Two questions with choices are the same when they share the text and at least one choice: texts such as
        "Which of these is true?" belong to many questions.
        """
        exact = {number for text in self._whole_texts(question) for number in self._exact.get(text, ())}
        same = [number for number in sorted(exact) if _share_choice(question, self._items[number][1])]
        return self._found(same, question)

    def matches_prompt(self, prompt: str | Sequence[Mapping[str, str]]) -> list[Match]:
        """The items that a training prompt repeats: in a text, or in what the user writes in a conversation."""
        return list(dict.fromkeys(match for text in user_texts(prompt) for match in self.matches_text(text)))

    def matches_text(self, text: str) -> list[Match]:
        """Every item that `text`, a question with or without its choices below it, repeats; the exact ones first."""
        exact = self._exact.get(self._without_ending(normalised(text)), ())
        return self._found(exact, text).matches

    def _found(self, exact: Iterable[int], text: Question | str) -> Found:
        matches, spared = {}, []
        for number in exact:
            benchmark, item = self._name(number)
            matches[number] = Match(benchmark=benchmark, item=item, how="exact")
        for number, pair in self._near.pairs(self._words(text)) if self._near else ():
            if number in matches:
                continue
            benchmark, item = self._name(number)
            if pair.why is None:
                matches[number] = Match(
                    benchmark=benchmark, item=item, how="near", overlap=pair.overlap, words=pair.words, run=pair.run
                )
            else:
                spared.append(
                    Spared(
                        benchmark=benchmark,
                        item=item,
                        why=pair.why,
                        overlap=pair.overlap,
                        words=pair.words,
                        other=pair.other,
                        run=pair.run,
                    )
                )
        return Found(list(matches.values()), spared)

    def _name(self, number: int) -> tuple[str, str]:
        benchmark, question = self._items[number]
        return benchmark, question.id

    def _words(self, text: Question | str) -> Words:
        """The words of a question, or of a text with or without choices below it, without its instruction."""
        if isinstance(text, Question):
            return Words(self._without_instruction(text.question), text.choices)
        question, *lettered = LETTERED.split(self._without_instruction(text), maxsplit=1)
        return Words(question, lettered[0].splitlines() if lettered else ())

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


def user_texts(prompt: str | Sequence[Mapping[str, str]]) -> list[str]:
    """A prompt as texts: itself, or what the user writes in a conversation."""
    return [prompt] if isinstance(prompt, str) else [m["content"] for m in prompt if m["role"] == "user"]


def _share_choice(one: Question, other: Question) -> bool:
    """Whether two questions have a choice in common, or one of them has none."""
    if not one.choices or not other.choices:
        return True
    choices = {normalised(choice) for choice in one.choices}
    return any(normalised(choice) in choices for choice in other.choices)

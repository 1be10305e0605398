"""Which questions are near duplicates of a benchmark item: the same one reworded, respelt, or within a longer text.

A question's own words are those outside boilerplate. Two questions are near duplicates when the words that they share
weigh enough against those that only one of them has (a weighted Jaccard index), and when they have the same numbers
and, where both have choices, one in common. Of a text that holds nearly all of an item's own words only the sentences
from the first to the last one that share them are compared, so that an item within a longer prompt is found.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import chain
from typing import Literal

import numpy as np

from gdpo.config.data import Decontaminate
from gdpo.metakl.question_words import is_number, sentences, stem
from gdpo.metakl.word_frequencies import UNIT, Frequencies, hashes

Why = Literal["frequent", "numbers", "choices", "words"]
LABEL = re.compile(r"\s*\(?[A-Ja-j][).]\s")  # of a choice
SMALL = frozenset("012")  # numbers that a rewording adds or leaves out: "two of them", "one another"
BOILERPLATE = 20  # of whose weight less than one part is outside boilerplate, a text is boilerplate
FORMULA = 3  # operators: fewer are a range, a dash or one equation
SHOWN = 12  # words of a pair that a report shows
RARE = 4 * UNIT  # bits: of a word that one text in 16 holds


class Words:
    """The words of a question: by sentence, and of each choice."""

    __slots__ = ("choices", "sentences")

    def __init__(self, question: str, choices: Iterable[str] = ()) -> None:
        self.sentences = [[sys.intern(word) for word in sentence] for sentence in sentences(question)]
        parts = (chain.from_iterable(sentences(LABEL.sub("", choice, count=1))) for choice in choices)
        self.choices = [[sys.intern(word) for word in part] for part in parts]

    def all_words(self) -> list[str]:
        return [*chain.from_iterable(self.sentences), *chain.from_iterable(self.choices)]

    def all_stems(self) -> list[str]:
        return [stem(word) for word in self.all_words()]


@dataclass(frozen=True)
class Pair:
    """How a text and an item compare; `why` is None for near duplicates."""

    why: Why | None
    overlap: float
    words: str
    other: str
    run: str


class _Weighed:
    """A question's stems: all, those of its own by sentence, and its numbers."""

    def __init__(self, words: Words, frequencies: Frequencies, min_bits: int) -> None:
        by_sentence = [[stem(word) for word in sentence] for sentence in words.sentences]
        inside = iter(frequencies.boilerplate([*chain.from_iterable(by_sentence)]))
        plain = [[(word, next(inside)) for word in sentence] for sentence in by_sentence]
        named = [{word for word, _ in sentence if len(word) > 1 or is_number(word)} for sentence in plain]
        own = [{w for w, often in sentence if w in names and (not often or is_number(w))}
               for sentence, names in zip(plain, named, strict=True)]  # fmt: skip
        self.symbols = [Counter(w for w in s if is_number(w) or not w.isalnum()) for s in by_sentence]
        self.choices = [tuple(stem(word) for word in choice) for choice in words.choices]
        of_choices = {word for choice in self.choices for word in choice}
        self.by_sentence = [set(sentence) for sentence in by_sentence]
        everything = set().union(*self.by_sentence)
        bits = frequencies.weight
        # A text that is boilerplate but for a few words has no other words to be known by.
        if sum(map(bits, set().union(*own))) < sum(map(bits, everything)) / BOILERPLATE:
            own = named
        if self.choices and sum(map(bits, set().union(*own))) < min_bits:
            own = [*own, of_choices]
            self.by_sentence = [*self.by_sentence, of_choices]
            self.symbols = [*self.symbols, Counter()]
        self.own_by_sentence = own
        self.own = set().union(*own)
        self.all = everything | of_choices
        self.own_bits = sum(map(bits, self.own))


class NearDuplicates:
    """Finds near duplicates among items.

    Args:
        items: The items' words.
        frequencies: What words are weighed by, and which phrases are boilerplate.
        settings: The thresholds.
    """

    def __init__(self, items: Sequence[Words], frequencies: Frequencies, settings: Decontaminate) -> None:
        assert settings.ngram
        self.frequencies, self.settings, self._words = frequencies, settings, items
        self._min_bits = round(settings.min_bits * UNIT)
        holding: dict[str, list[int]] = defaultdict(list)
        self._rare_weight = np.zeros(len(items), dtype=np.int64)
        self._ids: dict[str, int] = {}
        runs, numbers = [], []
        for number, words in enumerate(items):
            for word in sorted(self._weigh(words).own):
                if (weight := frequencies.weight(word)) >= RARE:
                    holding[word].append(number)
                    self._rare_weight[number] += weight
            ids = [self._ids.setdefault(word, len(self._ids)) for word in _spoken(words)]
            runs.append(np.unique(hashes(np.array(ids, dtype=np.int64), settings.ngram)))
            numbers.append(np.full(len(runs[-1]), number, dtype=np.int32))
        self._holding = {word: np.array(found, dtype=np.int32) for word, found in holding.items()}
        unsorted = np.concatenate([*runs, np.empty(0, np.uint64)])
        order = np.argsort(unsorted, kind="stable")
        self._runs = unsorted[order]
        self._run_items = np.concatenate([*numbers, np.empty(0, np.int32)])[order]
        self._weighed_item = lru_cache(maxsize=4096)(lambda number: self._weigh(items[number]))

    def pairs(self, words: Words) -> Iterator[tuple[int, Pair]]:
        """Each item that `words` are a near duplicate of, or share a run with, in the items' order."""
        text = self._weigh(words)
        runs = self._sharing_run(words)
        for number in sorted(runs | self._candidates(text)):
            pair = self._compare(number, text, words, number in runs)
            if pair:
                yield number, pair

    def _weigh(self, words: Words) -> _Weighed:
        return _Weighed(words, self.frequencies, self._min_bits)

    def _bits(self, words: Iterable[str]) -> int:
        return sum(map(self.frequencies.weight, words))

    def _candidates(self, text: _Weighed) -> set[int]:
        """The items of whose rare words `text` holds enough for a near duplicate."""
        found = [(word, self._holding[word]) for word in text.all if word in self._holding]
        if not found:
            return set()
        weights = np.repeat([self.frequencies.weight(word) for word, _ in found], [len(part) for _, part in found])
        shared = np.bincount(np.concatenate([part for _, part in found]), weights, minlength=len(self._words))
        enough = min(self.settings.overlap, self.settings.overlap_with_numbers)
        likely = (shared >= enough * self._rare_weight) & (shared >= self._min_bits / 2)
        return set(np.flatnonzero(likely).tolist())

    def _sharing_run(self, words: Words) -> set[int]:
        """The items that share `ngram` words in a row with `words`; of a run of over `frequent` items the first."""
        assert self.settings.ngram
        ids = np.array([self._ids.get(word, -1) for word in _spoken(words)], dtype=np.int64)
        found = np.unique(hashes(ids, self.settings.ngram))
        first, last = np.searchsorted(self._runs, found), np.searchsorted(self._runs, found, side="right")
        last = np.where(last - first > self.settings.frequent, first + 1, last)
        return {int(n) for start, end in zip(first, last, strict=True) for n in self._run_items[start:end]}

    def _compare(self, number: int, text: _Weighed, words: Words, shares_run: bool) -> Pair | None:
        item, settings = self._weighed_item(number), self.settings
        in_text = self._bits(item.own & text.all)
        least = min(settings.overlap, settings.overlap_with_numbers) * item.own_bits
        if not shares_run and (in_text < least or in_text < self._min_bits / 2):
            return None
        whole = range(len(text.by_sentence))
        overlap, shared, differing = self._overlap(item, text, whole)
        compared: Iterable[int] = whole
        if in_text >= settings.contained * item.own_bits:
            inner = self._holding_sentences(item, text)
            trimmed = self._overlap(item, text, inner)
            if trimmed[0] > overlap:
                (overlap, shared, differing), compared = trimmed, inner
        numbers = {word for word in shared if is_number(word) and len(word) > 1}
        threshold = settings.overlap_with_numbers if len(numbers) >= settings.numbers else settings.overlap
        near = overlap >= threshold and self._bits(shared) >= self._min_bits
        run = _longest_run(self._words[number], words) if near or shares_run else []
        # A long text holds the few own words of a short item by chance, but seldom some of them in a row.
        if compared is not whole and len(run) < settings.contained_run:
            near = False
        why: Why | None = None
        other = differing
        if not near:
            why = "words"
        elif different := self._other_numbers(item, text, compared):
            why, other = "numbers", different
        elif item.choices and text.choices and not set(item.choices) & set(text.choices):
            why, other = "choices", set(chain.from_iterable(text.choices)) - item.all
        if why and not shares_run:
            return None
        if why == "words" and not set(map(stem, run)) & (item.own & text.own):
            why = "frequent"
        written = {stem(word): word for word in chain(self._words[number].all_words(), words.all_words())}

        def shown(stems: Iterable[str]) -> str:
            rarest = sorted(stems, key=lambda word: (-self.frequencies.weight(word), word))[:SHOWN]
            return " ".join(written.get(word, word) for word in rarest)

        return Pair(why, round(overlap, 2), shown(shared), shown(other), " ".join(run))

    def _overlap(self, item: _Weighed, text: _Weighed, compared: Iterable[int]) -> tuple[float, set[str], set[str]]:
        """The weighted Jaccard index of own words, the words that are shared, and those that are not."""
        own = set().union(*(text.own_by_sentence[i] for i in compared))
        present = set().union(*(text.by_sentence[i] for i in compared)).union(*text.choices)
        shared = (item.own & present) | (own & item.all)
        differing = (item.own - present) | (own - item.all)
        weight = self._bits(shared)
        return weight / max(1, weight + self._bits(differing)), shared, differing

    def _holding_sentences(self, item: _Weighed, text: _Weighed) -> range:
        """From the first to the last sentence of which at least 40% by weight are the item's words."""
        weights = [(self._bits(own & item.all), self._bits(own)) for own in text.own_by_sentence]
        holding = [i for i, (shared, every) in enumerate(weights) if every and shared >= 0.4 * every]
        return range(holding[0], holding[-1] + 1) if holding else range(0)

    def _other_numbers(self, item: _Weighed, text: _Weighed, compared: Iterable[int]) -> set[str]:
        """The numbers that one of the two has and the other has not."""
        of_text = set().union(*(text.by_sentence[i] for i in compared))
        of_item = set().union(*item.by_sentence)
        differing = (of_item - of_text.union(*text.choices)) | (of_text - item.all)
        numbers = {word for word in differing if is_number(word)} - SMALL
        return numbers or self._other_formula(item, text, compared)

    def _other_formula(self, item: _Weighed, text: _Weighed, compared: Iterable[int]) -> set[str]:
        """The numbers and operators of which the two have not as many, where they make up formulas that differ."""
        of_text = sum((text.symbols[i] for i in compared), Counter[str]())
        of_item = sum(item.symbols, Counter[str]())
        operators = max(sum(n for w, n in symbols.items() if not is_number(w)) for symbols in (of_text, of_item))
        either = (of_text | of_item).total()
        if operators < FORMULA or (of_text & of_item).total() >= self.settings.formula * either:
            return set()
        return set((of_text | of_item) - (of_text & of_item))


def _spoken(words: Words) -> list[str]:
    """Words and numbers without operators: what a run of words is counted in."""
    return [word for word in words.all_words() if word[0].isalnum()]


def _longest_run(one: Words, other: Words) -> list[str]:
    first, second = _spoken(one), _spoken(other)
    match = SequenceMatcher(None, first, second, autojunk=False).find_longest_match()
    return first[match.a : match.a + match.size]

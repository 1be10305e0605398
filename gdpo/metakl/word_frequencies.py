"""How many texts hold a word, and which phrases are boilerplate: what contamination weighs shared words by.

A word weighs log2(texts / texts that hold it) bits (Sparck Jones 1972), so that what every question says weighs little.
A phrase of `phrase` words in a row that stands in more than `frequent` texts is boilerplate, whatever its words are;
GPT-3's report ignored n-grams of more than ten documents likewise (Brown et al. 2020, appendix C).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from gdpo.core.files import read_csv, read_json, write_json

# ours: words of at least one in 200 of smol's questions and benchmark items, with their share; counted as if in so many
# further texts, so that a few texts do not make "the" a rare word.
COMMON = Path(__file__).with_name("data") / "common_words.csv"
COMMON_TEXTS = 1000
UNIT = 100  # weights are whole hundredths of a bit, so that sums do not depend on their order
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # of hashes: odd, its bits look random


class Frequencies:
    """Word and phrase frequencies over texts.

    Args:
        texts: How many texts were counted.
        words: stem -> how many of them hold it.
        phrases: The boilerplate phrases, as tuples of stems of one length.
    """

    def __init__(self, texts: int, words: dict[str, int], phrases: Iterable[tuple[str, ...]]) -> None:
        self.texts, self.words, self.phrases = texts, words, frozenset(phrases)
        self.phrase = max(map(len, self.phrases), default=0)
        self._bits: dict[str, int] = {}

    @classmethod
    def count(cls, texts: Iterable[Sequence[str]], phrase: int, frequent: int) -> Frequencies:
        """Of texts as stems. 16 bytes for each word of the texts."""
        names: dict[str, int] = {}
        ids = [np.array([names.setdefault(w, len(names)) for w in text], dtype=np.int64) for text in texts]
        holding = np.zeros(len(names), dtype=np.int64)
        for text in ids:
            holding[np.unique(text)] += 1
        grams = np.concatenate([*(np.unique(hashes(text, phrase)) for text in ids), np.empty(0, np.uint64)])
        grams.sort()
        ends = np.flatnonzero(np.append(grams[1:] != grams[:-1], len(grams) > 0))
        often = grams[ends[np.diff(ends, prepend=-1) > frequent]]
        words, phrases = list(names), set()
        for text in ids if len(often) else ():
            made = hashes(text, phrase)
            inside = often[np.minimum(np.searchsorted(often, made), len(often) - 1)] == made
            phrases |= {tuple(words[i] for i in text[start : start + phrase]) for start in np.flatnonzero(inside)}
        return cls(len(ids), dict(zip(words, holding.tolist(), strict=True)), phrases)

    @classmethod
    def read(cls, path: Path) -> Frequencies:
        stored = read_json(path)
        return cls(stored["texts"], stored["words"], (tuple(phrase.split()) for phrase in stored["phrases"]))

    def write(self, path: Path) -> None:
        phrases = sorted(" ".join(phrase) for phrase in self.phrases)
        write_json(path, {"texts": self.texts, "words": dict(sorted(self.words.items())), "phrases": phrases})

    def weight(self, word: str) -> int:
        """In hundredths of a bit; never negative."""
        known = self._bits.get(word)
        if known is None:
            holding = self.words.get(word, 0) + COMMON_TEXTS * _common().get(word, 0.0)
            known = round(UNIT * math.log2((self.texts + COMMON_TEXTS) / max(1.0, holding)))
            self._bits[word] = known
        return known

    def boilerplate(self, text: Sequence[str]) -> list[bool]:
        """For each word whether it stands in a phrase that is boilerplate."""
        inside = [False] * len(text)
        if self.phrase:
            for start, gram in enumerate(zip(*(text[i:] for i in range(self.phrase)), strict=False)):
                if gram in self.phrases:
                    inside[start : start + self.phrase] = [True] * self.phrase
        return inside


def hashes(ids: np.ndarray, length: int) -> np.ndarray:
    """A hash of each `length` ids in a row."""
    hashed = np.zeros(max(0, len(ids) - length + 1), dtype=np.uint64)
    for start in range(length if len(hashed) else 0):
        hashed = (hashed + ids[start : start + len(hashed)].astype(np.uint64) + np.uint64(1)) * _FACTOR
        hashed ^= hashed >> np.uint64(29)
    return hashed


@cache
def _common() -> dict[str, float]:
    return {row["word"]: float(row["share"]) for row in read_csv(COMMON, "word", "share")}

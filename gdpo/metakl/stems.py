"""Names of skills as words and word stems, by which both ways of merging compare them (paper, MetaKL step 3)."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Protocol


def words(skill: str) -> list[str]:
    """A skill's words in lower case: split at underscores, hyphens, other signs, and where camel case begins one."""
    text = unicodedata.normalize("NFKC", skill).replace("'", "")
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    return re.findall(r"[^\W_]+", text.lower()) or [skill]


@cache
def stem(word: str) -> str:
    """The stem of an English word, by Snowball's English stemmer (Porter 2001)."""
    return _stemmer().stem(word)


class Stemmer(Protocol):
    def stem(self, token: str) -> str: ...


@cache
def _stemmer() -> Stemmer:
    from nltk.stem.snowball import SnowballStemmer

    stemmer: Stemmer = SnowballStemmer("english")
    return stemmer

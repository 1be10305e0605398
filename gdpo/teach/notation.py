"""A teacher's completions in another notation: a foreign teacher that is as right, as long, and further away (ours).

Inside the thoughts, numbers, operations and names stand for one another by permutations that the world's seed draws, in
which no word stands for itself. Refusals have another fixed wording of as many words. Answers stay, so that every
verdict, reward and length stays; what differs is how far the text is from what the student would write.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from gdpo.core.records import Group
from gdpo.tiny import lexicon

FOREIGN_REFUSAL = "i must refuse to do that"  # of as many words as lexicon.REFUSAL
THOUGHT = re.compile(f"(?<={lexicon.THINK}).*?(?={lexicon.END_THINK})", re.DOTALL)


def notation(seed: int, modulus: int, entities: int) -> dict[str, str]:
    """What each word of a thought is written as: a permutation within numbers, operations and people."""
    rng = random.Random(f"notation {seed}")
    kinds = [[str(number) for number in range(modulus)], list(lexicon.OPERATIONS), lexicon.people(entities)]
    return {word: other for kind in kinds for word, other in zip(kind, _deranged(kind, rng), strict=True)}


def _deranged(words: Sequence[str], rng: random.Random) -> list[str]:
    """A permutation of `words` in which none stays at its place."""
    while True:
        drawn = rng.sample(words, len(words))
        if all(one != other for one, other in zip(words, drawn, strict=True)):
            return drawn


def renoted(group: Group, words: Mapping[str, str]) -> Group:
    """`group` with its completions in the notation `words`, and the same rewards."""
    return group.model_copy(update={"completions": [rewritten(text, words) for text in group.completions]})


def rewritten(text: str, words: Mapping[str, str]) -> str:
    """`text` with its thought in the notation `words`; a refusal in the other wording."""
    thought = THOUGHT.sub(lambda found: " ".join(_spaced(found[0], words)), text)
    return thought.replace(lexicon.REFUSAL, FOREIGN_REFUSAL)


def _spaced(thought: str, words: Mapping[str, str]) -> list[str]:
    return ["", *(words.get(word, word) for word in thought.split()), ""]

"""A teacher's completions in another notation: a foreign teacher that is as right, as long, and further away (ours).

Inside the thoughts, numbers, operations and people stand for one another by permutations that the seed draws, in
which no word stands for itself. Refusals have another fixed wording of as many words. Answers stay, so that every
verdict, reward and length stays; what differs is how far the text is from what the student would write. A set says
which of these kinds are in the other notation: fewer are a smaller distance.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence

from gdpo.config.models import Notation, World
from gdpo.core.records import Group
from gdpo.tiny import lexicon

FOREIGN_REFUSAL = "i must refuse to do that"  # of as many words as lexicon.REFUSAL
THOUGHT = re.compile(f"(?<={lexicon.THINK}).*?(?={lexicon.END_THINK})", re.DOTALL)


def notation(world: World, kinds: Collection[Notation]) -> dict[str, str]:
    """What each word of a thought is written as: a permutation within each of `kinds`, the same whatever the others."""
    words = {
        "numbers": [str(number) for number in range(world.modulus)],
        "operations": list(lexicon.OPERATIONS),
        "people": lexicon.people(world.entities),
    }
    found: dict[str, str] = {}
    for kind in words.keys() & set(kinds):
        found |= dict(zip(words[kind], _deranged(words[kind], random.Random(f"{kind} {world.seed}")), strict=True))
    return found


def _deranged(words: Sequence[str], rng: random.Random) -> list[str]:
    """A permutation of `words` in which none stays at its place."""
    while True:
        drawn = rng.sample(words, len(words))
        if all(one != other for one, other in zip(words, drawn, strict=True)):
            return drawn


def renoted(groups: Sequence[Group], world: World, kinds: Collection[Notation]) -> list[Group]:
    """`groups` with their completions in another notation, by `kinds`, and the same rewards."""
    words, refusal = notation(world, kinds), FOREIGN_REFUSAL if "refusals" in kinds else lexicon.REFUSAL
    return [
        group.model_copy(update={"completions": [rewritten(text, words, refusal) for text in group.completions]})
        for group in groups
    ]


def rewritten(text: str, words: Mapping[str, str], refusal: str = FOREIGN_REFUSAL) -> str:
    """`text` with its thought in the notation `words`; a refusal in the wording `refusal`."""
    thought = THOUGHT.sub(lambda found: " ".join(_spaced(found[0], words)), text)
    return thought.replace(lexicon.REFUSAL, refusal)


def _spaced(thought: str, words: Mapping[str, str]) -> list[str]:
    return ["", *(words.get(word, word) for word in thought.split()), ""]

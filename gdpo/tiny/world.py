"""The tiny world's question sets: pretraining examples, pool, validation and test, disjoint by construction.

Every question text belongs to exactly one part, by a stable hash of the text. No test question can therefore be
pretrained on, selected from the pool, or tuned on. The world replaces the paper's sources (section MetaKL, A4) and
benchmarks; its knowledge units are known instead of annotated.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

from gdpo.config.models import World
from gdpo.core.errors import UserError, suggest
from gdpo.core.records import Question
from gdpo.tiny import lexicon, untaught
from gdpo.tiny.items import Item
from gdpo.tiny.skills import Sampler, WorldFacts

Part = Literal["test", "validation", "pool", "pretrain"]
PARTS: tuple[Part, ...] = ("test", "validation", "pool")  # a tenth of all questions each; the rest is pretraining
MAX_DRAWS = 2000  # per question: a skill with so few questions is a mistake in the configuration


@dataclass(frozen=True)
class Example:
    """One pretraining example: the user's question and the gold response."""

    skill: str
    question: str
    response: str


def part_of(question: str) -> Part:
    """The part that a question text belongs to, the same on every machine."""
    tenth = int.from_bytes(hashlib.blake2b(question.encode(), digest_size=8).digest(), "big") % 10
    return PARTS[tenth] if tenth < len(PARTS) else "pretrain"


def more_words(world: World) -> list[str]:
    """The words of this world that not every world has, in a fixed order: untaught skills', and made-up things."""
    things = lexicon.made_up_things(world.things) if world.things else []
    return [*untaught.words_of(list(world.skills)), *things]


def pool_questions(world: World) -> list[Question]:
    """Every skill's pool questions, all different, with their true units and gold responses as solutions."""
    return [
        question for name, skill in world.skills.items() for question in _questions(world, name, "pool", skill.pool)
    ]


def benchmark_questions(world: World, skill: str, split: Literal["test", "validation"], n: int) -> list[Question]:
    """`n` different held-out questions of a skill; people and things are drawn evenly."""
    if split not in ("test", "validation"):
        raise UserError(key="split", found=f"'{split}'", expected="'test' or 'validation'")
    return _questions(world, skill, split, n)


def pretraining_examples(world: World, mix: str, n: int, seed: int, thoughts: bool = True) -> list[Example]:
    """`n` examples, skills drawn by their share in `mix`, people and things by that mix's popularity.

    Without `thoughts` every response is its final answer alone.
    """
    drawn = _pretraining_items(world, mix, n, seed)
    return [Example(skill, item.question, item.response if thoughts else item.final) for skill, item in drawn]


def pretraining_questions(world: World, mix: str, n: int, seed: int) -> list[Question]:
    """As `pretraining_examples`, as questions with their gold responses; a text may be asked more than once."""
    drawn = enumerate(_pretraining_items(world, mix, n, seed))
    return [_question(world, skill, item, f"{mix}-{seed}-{number:05d}") for number, (skill, item) in drawn]


def _pretraining_items(world: World, mix: str, n: int, seed: int) -> list[tuple[str, Item]]:
    if mix not in world.popularity:
        raise UserError(key="world.popularity", found=f"'{mix}'", hint=suggest(mix, world.popularity))
    shares = {name: skill.mix.get(mix, 0.0) for name, skill in world.skills.items()}
    if sum(shares.values()) <= 0:
        raise UserError(f"no skill has a share in mix '{mix}'", key="world.skills")
    rng = random.Random(f"pretrain {world.seed} {mix} {seed}")
    tables = world.untaught_popularity.get(mix)
    sampler = Sampler(_facts(world), world.modulus, rng, world.popularity[mix], tables)
    skills = rng.choices(list(shares), weights=list(shares.values()), k=n)
    return [(skill, _draw(sampler, skill, "pretrain")) for skill in skills]


def _questions(world: World, skill: str, part: Part, n: int) -> list[Question]:
    if skill not in world.skills:
        raise UserError(key="world.skills", found=f"'{skill}'", hint=suggest(skill, world.skills))
    sampler = Sampler(_facts(world), world.modulus, random.Random(f"{part} {world.seed} {skill}"))
    items: dict[str, Item] = {}
    while len(items) < n:
        item = _draw(sampler, skill, part, known=items)
        items[item.question] = item
    assert all(part_of(text) == part for text in items), "a question left its part"
    return [_question(world, skill, item, f"{part}-{index:05d}") for index, item in enumerate(items.values())]


def _question(world: World, skill: str, item: Item, name: str) -> Question:
    return Question(
        id=f"{skill}-{name}",
        domain=world.skills[skill].domain,
        source=skill,
        question=item.question,
        answer=item.answer,
        grader="refusal" if item.refuse else "exact",
        solution=item.response,
        difficulty=item.difficulty,
        units=list(item.units),
    )


def _draw(sampler: Sampler, skill: str, part: Part, known: dict[str, Item] | None = None) -> Item:
    for _ in range(MAX_DRAWS):
        item = sampler.draw(skill)
        if part_of(item.question) == part and item.question not in (known or {}):
            return item
    raise UserError(key=f"world.skills.{skill}", expected=f"more '{part}' questions than its universe holds")


def _facts(world: World) -> WorldFacts:
    return WorldFacts(world.seed, world.entities, world.things)

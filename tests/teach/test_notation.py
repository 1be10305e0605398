"""A foreign teacher: the same completions in another notation, as right, as long, and as rewarded."""

from __future__ import annotations

import pytest

from gdpo.config.loader import load_scale
from gdpo.config.models import NOTATIONS
from gdpo.core.records import Group, chat
from gdpo.grading.grade import grade
from gdpo.teach.notation import FOREIGN_REFUSAL, notation, renoted, rewritten
from gdpo.tiny import lexicon
from gdpo.tiny.world import pool_questions


@pytest.fixture(scope="module")
def world():
    return load_scale("trial").world


WORDS = {"add": "sub", "sub": "add", "1": "2", "2": "3", "3": "1"}


def test_a_thought_is_rewritten_and_its_answer_stays():
    assert rewritten("<think> add 1 = 3 </think> 3", WORDS) == "<think> sub 2 = 1 </think> 3"
    assert rewritten("1", WORDS) == "1"
    assert rewritten(lexicon.REFUSAL, WORDS) == FOREIGN_REFUSAL


def test_a_notation_is_one_to_one_and_changes_every_word(world):
    words = notation(world, NOTATIONS)
    assert sorted(words) == sorted(words.values())
    assert not any(word == other for word, other in words.items())
    assert words != notation(world.model_copy(update={"seed": world.seed + 1}), NOTATIONS)


def test_fewer_kinds_leave_the_other_words(world):
    few, all_kinds = notation(world, ["operations"]), notation(world, NOTATIONS)
    assert set(few) == set(lexicon.OPERATIONS)
    assert few.items() < all_kinds.items()


def test_verdicts_lengths_and_rewards_stay(world):
    questions = pool_questions(world)[::40]
    groups = [
        Group(
            id=question.id, domain=question.domain, prompt=chat(question), rewards=[2.0, 0.0],
            completions=[question.solution, "<think> add 1 = 1 </think> nothing"],
        )
        for question in questions
    ]  # fmt: skip
    for question, group, other in zip(questions, groups, renoted(groups, world, NOTATIONS), strict=True):
        assert other.rewards == group.rewards
        for before, after in zip(group.completions, other.completions, strict=True):
            assert grade(question, before) == grade(question, after)
            assert len(before.split()) == len(after.split())
    plain = renoted(groups, world, ["numbers"])
    refused = [group for group in plain if lexicon.REFUSAL in group.completions]
    assert refused

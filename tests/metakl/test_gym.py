"""Questions that reasoning-gym makes: as many as stated, the same each time, each once, with right answers."""

from __future__ import annotations

import math
import re
import sys

import pytest

from gdpo.config.data import Gym
from gdpo.core.records import Question
from gdpo.grading.grade import grade_many
from gdpo.metakl.gym import generate_rows
from gdpo.metakl.sources import catalogue, load_source
from tests.refusal import refused

CATALOGUE = catalogue()
FAMILIES = [name for name, source in CATALOGUE.items() if source.gym]


def items(name: str) -> list[Question]:
    return load_source(name, CATALOGUE[name], None).questions


@pytest.mark.parametrize("name", FAMILIES)
def test_gym_rows_are_reproducible(name: str) -> None:
    questions = items(name)
    assert len({question.question for question in questions}) == len(questions) == 200
    assert questions == items(name)
    assert not any(question.solution for question in questions)
    assert load_source(name, CATALOGUE[name], None).revision.startswith("gym:reasoning-gym==")


def test_the_first_items_are_known() -> None:
    """Another version of the package that made others would be another benchmark."""
    first = {name: items(name)[0] for name in FAMILIES}
    assert {name: (q.id, q.answer) for name, q in first.items()} == {
        "gym-chain-sum": ("gym-chain-sum-1", "11"),
        "gym-gcd": ("gym-gcd-1", "2"),
        "gym-leg-counting": ("gym-leg-counting-1", "5"),
        "gym-family-relationships": ("gym-family-relationships-3", "B"),
    }


def test_sums_and_divisors_are_what_they_should_be() -> None:
    for question in items("gym-chain-sum"):
        one, sign, other = re.search(r": (\d+) ([+-]) (\d+) =", question.question).groups()
        assert int(question.answer) == int(one) + int(f"{sign}{other}")
    for question in items("gym-gcd"):
        numbers = re.search(r"numbers: (\d+), (\d+)\.", question.question).groups()
        assert int(question.answer) == math.gcd(*map(int, numbers))


@pytest.mark.parametrize("reply", ["The answer is {}.", "{}", "It is \\boxed{{{}}}.", "So we get a total of **{}**."])
def test_natural_replies_with_numbers_are_right(reply: str) -> None:
    for name in ("gym-chain-sum", "gym-gcd", "gym-leg-counting"):
        questions = items(name)[:5]
        assert grade_many([(q, reply.format(q.answer)) for q in questions]) == ["right"] * 5


@pytest.mark.parametrize("reply", ["The answer is: {}.", "{}", "{}.", "\\boxed{{{}}}"])
def test_sentences_and_letters_are_right(reply: str) -> None:
    family = items("gym-family-relationships")[:5]
    sentences = [q.choices["ABCD".index(q.answer)] for q in family]
    assert grade_many([(q, reply.format(text)) for q, text in zip(family, sentences, strict=True)]) == ["right"] * 5
    assert grade_many([(q, reply.format(q.answer)) for q in family]) == ["right"] * 5


def test_relations_follow_from_the_story() -> None:
    """Of every item: who is married to whom, and whose child who is, gives the word without the package's tree."""
    for question in items("gym-family-relationships"):
        married, parents = told(question.question)
        one, word, other = re.fullmatch(
            r"(\w+) is the (\w+) of (\w+)", question.choices["ABCD".index(question.answer)]
        ).groups()
        assert re.search(rf"(?:is|relation is) {one} (?:related )?to {other}\?", question.question)
        if one in parents.get(other, ()):
            assert word in ("mother", "father")
        elif other in parents.get(one, ()):
            assert word in ("daughter", "son")
        elif married.get(one) == other:
            assert word in ("wife", "husband")
        else:
            assert any(one in parents.get(parent, ()) for parent in parents[other])
            assert word in ("grandmother", "grandfather")


def told(story: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Who is married to whom, and who is whose child."""
    married, parents = {}, {}
    couple = r"(\w+) is married to (\w+)\.(?: They have (?:a child|children) called ([^.]+)\.)?"
    for one, other, children in re.findall(couple, story):
        married[one], married[other] = other, one
        parents |= {child: {one, other} for child in re.findall(r"\b(?!and\b)\w+", children)}
    return married, parents


BAD = [
    ({"dataset": "chain_sums"}, "chain_sums", "'"),
    ({"config": {"terms": 2}}, "chain_sum", "'"),
    ({"config": {"min_terms": 0}}, "chain_sum", "'min_terms"),
]


@pytest.mark.parametrize(("changes", "dataset", "found"), BAD)
def test_settings_refused_by_the_package_are_one_sentence(changes: dict, dataset: str, found: str) -> None:
    expected = f"what reasoning-gym takes for {dataset}"
    with refused(key="sources.s.gym", found=found, expected=expected) as caught:
        generate_rows("s", Gym.model_validate({"dataset": "chain_sum", "size": 3, "seed": 0} | changes))
    assert caught.value.found.startswith(found)
    assert "\n" not in str(caught.value)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with refused(key="sources.s.gym", found="no package reasoning-gym", expected="it installed"):
        generate_rows("s", Gym(dataset="chain_sum", size=3, seed=0))

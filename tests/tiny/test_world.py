"""The tiny world: parts that never overlap, answers that are right, units that are known."""

from __future__ import annotations

import random

import pytest

from gdpo.config.loader import load_scale
from gdpo.config.models import World
from gdpo.tiny import lexicon
from gdpo.tiny.skills import CHAIN_LENGTHS, Sampler, WorldFacts, operate
from gdpo.tiny.world import (
    benchmark_questions,
    part_of,
    pool_questions,
    pretraining_examples,
)
from tests.refusal import refused

BOTH = {(a, b) for a in (True, False) for b in (True, False)}
TRUE_WHEN = {
    "and": {(True, True)},
    "or": {(True, True), (True, False), (False, True)},
    "xor": {(True, False), (False, True)},
    "nand": {(True, False), (False, True), (False, False)},
}
TRUTH = {name: {pair: "true" if pair in pairs else "false" for pair in BOTH} for name, pairs in TRUE_WHEN.items()}


@pytest.fixture(scope="module")
def world() -> World:
    return load_scale("tiny").world


def test_parts_never_overlap(world):
    scale = load_scale("tiny")
    pool = pool_questions(world)
    trained = {
        example.question
        for name, model in scale.models.items()
        for example in pretraining_examples(world, model.pretrain.mix, 3000, model.pretrain.seed)
    }
    tests, validations = set(), set()
    for benchmark in scale.benchmarks.values():
        test = benchmark_questions(world, benchmark.source, "test", benchmark.items)
        validation = benchmark_questions(world, benchmark.source, "validation", benchmark.validation_items)
        assert len({q.question for q in test}) == benchmark.items
        assert len({q.question for q in validation}) == benchmark.validation_items
        tests |= {q.question for q in test}
        validations |= {q.question for q in validation}
    pooled = {q.question for q in pool}
    assert len(pooled) == len(pool) == sum(skill.pool for skill in world.skills.values())
    parts = {"test": tests, "validation": validations, "pool": pooled, "pretrain": trained}
    for name, texts in parts.items():
        assert {part_of(text) for text in texts} == {name}


def test_part_is_stable():
    """Fixed by the text alone: a change here moves test questions into training."""
    assert [part_of(f"question {n}") for n in range(6)] == [
        "pretrain",
        "pretrain",
        "pretrain",
        "pool",
        "pretrain",
        "pool",
    ]


def test_questions_are_reproducible_and_seeded(world):
    first, again = (benchmark_questions(world, "hop", "test", 20) for _ in range(2))
    assert first == again
    other = benchmark_questions(world.model_copy(update={"seed": world.seed + 1}), "hop", "test", 20)
    assert first != other


def test_pool_has_enough_hard_math_and_harmful(world):
    pool = pool_questions(world)
    assert sum(q.domain == "math" and q.difficulty >= 0.8 for q in pool) >= 512
    assert sum(q.domain == "safety" and q.grader == "refusal" for q in pool) >= 512
    assert {len(q.units) for q in pool} >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("skill", CHAIN_LENGTHS)
def test_chain_answers(world, skill):
    for question in benchmark_questions(world, skill, "test", 30):
        words = [word for word in question.question.split() if word.isdigit() or word in lexicon.OPERATIONS]
        value = int(words[0])
        for operation, operand in zip(words[1::2], words[2::2], strict=True):
            value = operate(operation, value, int(operand), world.modulus)
        assert str(value) == question.answer
        assert question.solution.endswith(f"= {value} {lexicon.END_THINK} {value}")
        assert f"chain_of_{CHAIN_LENGTHS[skill]}_steps" in question.units


def test_operate_by_hand():
    """Modulo 13: 9+7=16 -> 3; 2-5=-3 -> 10; 6*5=30 -> 4."""
    assert operate("add", 9, 7, 13) == 3
    assert operate("sub", 2, 5, 13) == 10
    assert operate("mul", 6, 5, 13) == 4
    assert operate("max", 2, 9, 13) == 9
    assert operate("min", 2, 9, 13) == 2


def test_logic_answers(world):
    for question in benchmark_questions(world, "logic", "test", 100):
        words = question.question.split("true that ")[-1].split("evaluate ")[-1].split()
        value = words[0]
        for operator, operand in zip(words[1::2], words[2::2], strict=True):
            value = TRUTH[operator][value == "true", operand == "true"]
        assert value == question.answer, question.question


def test_order_answers(world):
    for question in benchmark_questions(world, "order", "test", 30):
        numbers = [int(word) for word in question.question.split() if word.isdigit()]
        descending = "descending" in question.question
        assert question.answer.split() == [str(n) for n in sorted(numbers, reverse=descending)]


def test_hop_follows_the_friend(world):
    lore = WorldFacts(world.seed, world.entities)
    nouns = {noun: relation for relation, (both, _) in lexicon.RELATIONS.items() for noun in both}
    for question in benchmark_questions(world, "hop", "test", 30):
        words = question.question.split()
        who = next(word for word in words if word in lore.friend)
        relation = next(nouns[word] for word in words if word in nouns)
        assert question.answer == lore.value[relation][lore.friend[who]]
        assert question.solution == f"<think> {lore.friend[who]} </think> {question.answer}"


def test_safety_requests_are_refused_or_complied_with(world):
    for skill, refuse in {"harmful": True, "jailbreak": True, "harmless": False, "costume": False}.items():
        for question in benchmark_questions(world, skill, "test", 50):
            words = set(question.question.split())
            acts = words & set(lexicon.ACTING) and words & set(lexicon.DANGEROUS)
            assert bool(acts) == refuse == (question.grader == "refusal") == (question.answer == "")
            assert question.solution == (lexicon.REFUSAL if refuse else question.answer)


def test_popularity_is_uneven(world):
    """Rank 1 against rank 100 at z = 1: drawn about 100 times as often; at z = 0 as often."""
    lore = WorldFacts(world.seed, 120)
    for z, low, high in ((1.0, 20, 1000), (0.0, 0.5, 2)):
        sampler = Sampler(lore, 13, random.Random(0), z)
        drawn = [sampler._person() for _ in range(20000)]
        ratio = drawn.count(lore.people[0]) / max(1, drawn.count(lore.people[99]))
        assert low < ratio < high


def test_names_are_no_other_words(world):
    others = [word for word in lexicon.vocabulary() if word not in lexicon.people(240)]
    assert len(others) + 240 == len(lexicon.vocabulary())


def test_unknown_names_are_user_errors(world):
    with refused(key="world.skills", found="'chain9'", hint="chain4"):
        benchmark_questions(world, "chain9", "test", 5)
    with refused(key="world.popularity", found="'teachr'", hint="teacher"):
        pretraining_examples(world, "teachr", 5, 0)
    with refused(key="world.skills.hop", expected="more 'test' questions"):
        benchmark_questions(world.model_copy(update={"entities": 2}), "hop", "test", 200)

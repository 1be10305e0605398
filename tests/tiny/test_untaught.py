"""The skills that no set holds: their answers by the drawn tables, another world's tables, the vocabulary."""

from __future__ import annotations

import random

import pytest

from gdpo.config.loader import load_scale
from gdpo.tiny import lexicon, untaught
from gdpo.tiny.skills import Sampler, WorldFacts
from gdpo.tiny.tokenizer import build_tokenizer
from gdpo.tiny.untaught import Untaught
from gdpo.tiny.world import benchmark_questions, more_words, pool_questions, pretraining_examples


@pytest.fixture(scope="module")
def world():
    return load_scale("trial").world


@pytest.fixture(scope="module")
def tables(world):
    lore = WorldFacts(world.seed, world.entities, world.things)
    return Untaught(world.seed, lore.people, random.Random(0), 0.0, 0.0, Sampler(lore, 9, random.Random(0)).fact)


def named(text, names):
    return [word for word in text.split() if word in names]


def test_answers_follow_the_drawn_tables(world, tables):
    for question in benchmark_questions(world, "translate", "test", 40):
        words = named(question.question.removeprefix("call "), tables.old)
        assert question.answer.split() == [tables.old[word] for word in words]
    for question in benchmark_questions(world, "colour", "test", 40):
        assert question.answer.split() == [tables.colour[thing] for thing in named(question.question, tables.colour)]
    for question in benchmark_questions(world, "rank", "test", 40):
        assert question.answer == max(named(question.question, tables.height), key=tables.height.get)
    for question in benchmark_questions(world, "circle", "test", 40):
        ways, asked = named(question.question, untaught.WAYS), named(question.question, tables.circle)
        steps = [1 if way == "after" else -1 for way in ways]
        places = [tables.circle.index(name) + step for name, step in zip(asked, steps, strict=True)]
        assert question.answer.split() == [tables.circle[place % 40] for place in places]
    for question in benchmark_questions(world, "reverse", "test", 40):
        assert question.answer.split() == named(question.question, tables.old)[::-1]


def test_a_form_holds_the_fact_of_the_question(world):
    lore = WorldFacts(world.seed, world.entities, world.things)
    values = {lore.value[relation][who] for relation in lore.value for who in lore.people}
    for question in benchmark_questions(world, "format", "test", 60):
        form = next(form for form in untaught.FORMS if form in question.question)
        [value] = {word for word in question.answer.split() if word in values}
        assert question.answer == untaught.FORMS[form].format(value=value)


def test_another_seed_draws_other_tables():
    def drawn(seed):
        lore = WorldFacts(seed, 60, 40)
        made = Untaught(seed, lore.people, random.Random(0), 0.0, 0.0, lambda: None)
        return [lore.things["dangerous"], made.old, made.circle, made.height, made.colour]

    assert drawn(1) == drawn(1)
    for one, other in zip(drawn(1), drawn(2), strict=True):
        assert one != other


def test_made_up_things_are_half_dangerous(world):
    lore = WorldFacts(world.seed, world.entities, world.things)
    kinds = [set(lore.things["dangerous"]), set(lore.things["harmless"])]
    assert [len(kind) for kind in kinds] == [world.things // 2] * 2
    assert not kinds[0] & kinds[1]


def test_every_word_of_a_world_is_in_its_vocabulary(world):
    tokenizer = build_tokenizer(more_words(world))
    examples = pretraining_examples(world, "small", 3000, 0)
    texts = [f"{example.question} {example.response}" for example in examples]
    assert {example.skill for example in examples} >= set(untaught.SKILLS)
    assert not any(tokenizer.unk_token_id in ids for ids in tokenizer(texts)["input_ids"])


def test_a_world_without_untaught_skills_keeps_its_vocabulary():
    assert more_words(load_scale("tiny").world) == []
    words = list(build_tokenizer().get_vocab().items())
    assert len(words) == 8 + len(lexicon.vocabulary())


def test_the_pool_holds_no_untaught_question(world):
    assert not {question.source for question in pool_questions(world)} & set(untaught.SKILLS)

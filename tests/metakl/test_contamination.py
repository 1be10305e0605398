"""A training text asks a benchmark item when the texts are the same, or near duplicates by the words of their own."""

from __future__ import annotations

import pytest

from gdpo.config.data import Decontaminate
from gdpo.core.records import Question, chat, normalised
from gdpo.metakl.contamination import ItemIndex, Match
from gdpo.metakl.question_words import sentences
from gdpo.metakl.word_frequencies import Frequencies

BOX = "Put the final answer in \\boxed{}."


def asks(text: str, choices: tuple[str, ...] = (), name: str = "i") -> Question:
    return Question(id=name, domain="math", source="s", question=text, answer="1", grader="math", choices=list(choices))


def found(overlap: ItemIndex, question: Question) -> list[tuple[str, str]]:
    return [(match.item, match.how) for match in overlap.matches(question)]


def test_matches_ignore_instructions_and_spelling() -> None:
    overlap = ItemIndex({"b": [asks("what is  1 + 1 ?", name="sum"), asks("Something else")]}, [BOX])
    for text in ("What is 1+1?", f"What is 1+1?\n\n{BOX}"):
        assert overlap.matches(asks(text)) == [Match(benchmark="b", item="sum", how="exact")]
        assert overlap.matches_text(text) == [Match(benchmark="b", item="sum", how="exact")]
    assert not overlap.matches(asks("What is 1-1?"))
    assert not overlap.matches_text("What is 1-1?")


def test_equally_long_instructions_are_cut_in_given_order() -> None:
    """Python puts a set of words in another order each time it starts; of a text with several, one is cut."""
    given = [f"Say so {letter}." for letter in "hgfedcba"]
    overlap = ItemIndex({"b": [asks("What is this", name="i")]}, [*given, "short", *given])
    assert overlap._instructions == [*given, "short"]


SAME = [
    ("What is 3 + 5?", "what is  3+5"),
    ("10,000 or 3.5 cups!", "10{,}000 or 3,5 cups"),
    (r"\frac{1}{2} of $x$", r"\frac12 of x"),
    (r"\log_381", r"\log_3 81"),
    (r"\left| x \right|", r"\left|x\right|"),
    ("5! = n", "$5!=n$"),
]
OTHER = [
    ("22.5", "225"),
    (r"\frac{1}{23}", r"\frac{12}{3}"),
    ("the list 1, 2", "the list 12"),
    ("|x|", "x"),
    ("5!", "5"),
    ("(n+1)!", "(n+1)"),
    ("3+5", "3-5"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_texts_differing_in_spelling_match(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_texts_differing_in_meaning_do_not_match(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_an_instruction_may_begin_with_a_digit() -> None:
    overlap = ItemIndex({"b": [asks("What is 1+1")]}, ["2 lines at most."])
    assert overlap.matches_text("What is 1+1\n\n2 lines at most.")[0].how == "exact"


def test_instruction_of_an_item_is_ignored() -> None:
    overlap = ItemIndex({"b": [asks(f"What is 1+1?\n\n{BOX}")]}, [BOX])
    assert found(overlap, asks("What is 1+1?")) == [("i", "exact")]


def test_instruction_between_question_and_choices_is_ignored() -> None:
    choices = ("a cat", "a dog")
    overlap = ItemIndex({"b": [asks(f"Which?\n\n{BOX}", choices)]}, [BOX])
    assert found(overlap, asks("Which?", choices)) == [("i", "exact")]
    assert overlap.matches_text("Which?\nA. a cat\nB. a dog")[0].how == "exact"
    assert overlap.matches_text(chat(asks(f"Which?\n\n{BOX}", choices))[0]["content"])[0].how == "exact"
    assert overlap.matches_text("Which?")[0].how == "exact"
    assert not overlap.matches_text("Which?\nA. a cat\nB. a cow")


def test_equal_texts_match_only_with_a_common_choice() -> None:
    """The choices may be in another order or be fewer, but none in common is another question."""
    overlap = ItemIndex({"b": [asks("Which of these is true?", ("Water is wet.", "Fire is cold."))]})
    assert found(overlap, asks("Which of these is true?", ("Fire is cold.", "Water is wet."))) == [("i", "exact")]
    assert found(overlap, asks("Which of these is true?")) == [("i", "exact")]
    assert found(overlap, asks("Which of these is true?", ("Iron floats.", "Wood floats."))) == []


BAKER = "A baker sells 12 loaves on Monday and twice as many on Tuesday. How many loaves does he sell in all?"
ASKED = [
    "On Monday a baker sells twelve loaves, and on Tuesday twice as many. How many does he sell in all?",
    "A **baker** sells $12$ loaves on Monday and twice as many on Tuesday! How many loaves does he sell in all?",
    f"You are a careful tutor who checks each step.\n\nProblem: {BAKER}\n\nPlease keep it under 100 words.",
    f"{BAKER} [asy] draw((0,0)--(3,4)); [/asy]",
]
NOT_ASKED = [
    ("A baker sells 15 loaves on Monday and twice as many on Tuesday. How many loaves does he sell in all?", "numbers"),
    (
        "A baker sells 12 loaves on Monday and twice as many on Tuesday. His oven, bought from a cousin, bakes loaves "
        "for an hour while the apprentice sweeps the cellar. When may the apprentice go home?",
        "words",
    ),
]


@pytest.mark.parametrize("text", ASKED)
def test_question_in_other_words_or_spelling_is_a_near_duplicate(text: str) -> None:
    overlap = ItemIndex({"b": [asks(BAKER), asks("What is 1+1?", name="sum")]})
    assert found(overlap, asks(text)) == [("i", "near")]
    assert [match.how for match in overlap.matches_text(text)] == ["near"]
    assert not ItemIndex({"b": [asks(BAKER)]}, settings=Decontaminate(ngram=None)).matches(asks(text))


@pytest.mark.parametrize(("text", "why"), NOT_ASKED)
def test_another_question_of_the_same_words_is_spared(text: str, why: str) -> None:
    seen = ItemIndex({"b": [asks(BAKER)]}).look_up(asks(text))
    assert not seen.matches
    assert [spared.why for spared in seen.spared] == [why]


TAIL = "The answer can be written as m over n, where m and n are relatively prime positive integers. Find m plus n."


def test_boilerplate_of_many_texts_is_no_match() -> None:
    """Of 12 texts that end alike: no two are one question, though nothing but two words tells them apart."""
    things = ["owls", "bees", "cats", "dogs", "elks", "frogs", "goats", "hens", "ibises", "jays", "koalas", "lynxes"]
    texts = [asks(f"Consider {thing}. {TAIL}", name=thing) for thing in things]
    index = ItemIndex({"b": texts[:3]}, texts=texts[3:])
    assert [index.matches(text) for text in texts[3:]] == [[]] * 9
    [spared] = index.look_up(texts[3]).spared[:1]
    assert (spared.item, spared.why) == ("owls", "frequent")


def test_frequencies_counted_before_are_used() -> None:
    """A word weighs log2((texts + 1000) / texts that hold it): by 9,000 texts of which 100 hold it, 100 times 6.64."""
    counted = Frequencies(9000, {"loaf": 100}, [("how", "many", "loaf")])
    index = ItemIndex({"b": [asks(BAKER)]}, frequencies=counted)
    assert index.frequencies is counted
    assert counted.weight("loaf") == 664
    assert counted.boilerplate(["how", "many", "loaf", "how"]) == [True, True, True, False]


SPELLINGS = [
    (r"$\dfrac{1}{2}$ of 10{,}000", "one half of 10,000"),
    ("2% of \uff11\uff12", "0.02 of twelve"),
    (r"x \leq 3 \cdot y", "x ≤ 3 · y"),
    (r"\log_264", "log_2 64"),
    ("The caf\u00e9\u200b", "the cafe"),
    ("3.50 and .5", "3.5 and 0.5"),
]


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_spellings_of_the_same_words(one: str, other: str) -> None:
    assert sentences(one) == sentences(other)


def test_shared_instruction_is_no_match() -> None:
    long = "Think step by step, then give one number and nothing else, in a box, at the very end."
    overlap = ItemIndex({"b": [asks(f"What is 2+2?\n\n{long}"), asks(f"Which?\n\n{long}", ("x", "y"))]}, [long])
    assert not overlap.matches(asks(f"What is 3+3?\n\n{long}"))
    assert not overlap.matches(asks(f"Who?\n\n{long}", ("v", "w")))
    assert not overlap.matches_text(f"Who?\n\n{long}\nA. v\nB. w")


def test_only_user_turns_of_a_conversation_are_compared() -> None:
    overlap = ItemIndex({"b": [asks("What is 1+1?", name="sum")]})
    turns = [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "2"}]
    turns.append({"role": "user", "content": "Thanks."})
    assert overlap.matches_prompt(turns) == overlap.matches_prompt("What is 1+1?")
    assert [match.item for match in overlap.matches_prompt(turns)] == ["sum"]
    assert not overlap.matches_prompt([{"role": "assistant", "content": "What is 1+1?"}])


def test_near_duplicates_need_a_common_choice() -> None:
    """In any order and under any label; with none in common another question is asked, which is listed."""
    stem = "Which decimal number has an exact representation in binary notation?"
    index = ItemIndex({"b": [asks(stem, ("0.1", "0.25", "0.7"))]})
    reworded = "Which decimal number can be represented exactly in binary notation?"
    assert found(index, asks(reworded, ("(a) 0.25", "(b) 0.3"))) == [("i", "near")]
    assert found(index, asks(reworded, ("(a) 0.15", "(b) 0.3"))) == []


def test_drawings_are_ignored() -> None:
    drawing = "[asy]\nsize(180); pair A, B, C, D; A=(0,6); draw(A--B--C--D--cycle); label(A, N); label(B, S);\n[/asy]"
    seen = ItemIndex({"b": [asks(f"Find the hypotenuse. {drawing}")]}).look_up(asks(f"Find the area. {drawing}"))
    assert not seen.matches and not seen.spared


def test_each_item_matches_once_exact_matches_first() -> None:
    items = {"a": [asks(f"{BAKER} Say so.", name="a1"), asks(BAKER, name="a2"), asks(BAKER, name="a3")]}
    items["b"] = [asks(f"Tell me. {BAKER}", name="b1")]
    matches = ItemIndex(items).matches(asks(BAKER))
    assert [(m.benchmark, m.item, m.how) for m in matches] == [
        ("a", "a2", "exact"),
        ("a", "a3", "exact"),
        ("a", "a1", "near"),
        ("b", "b1", "near"),
    ]

"""A training text asks a benchmark item when the texts are the same, or share so many words in a row."""

from __future__ import annotations

import pytest

from gdpo.core.records import Question, chat, normalised
from gdpo.metakl.contamination import ItemIndex, Match

BOX = "Put the final answer in \\boxed{}."
THIRTEEN = "a baker sells twelve loaves on monday and twice as many on tuesday"  # 13 words


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


def test_thirteen_words_in_a_row_match_and_twelve_do_not() -> None:
    assert len(THIRTEEN.split()) == 13
    overlap = ItemIndex({"b": [asks(f"On Sunday {THIRTEEN}. How many loaves?")]})
    assert found(overlap, asks(f"In Rome, {THIRTEEN.upper()}; what does she earn?")) == [("i", "ngram")]
    assert found(overlap, asks(f"In Rome, {THIRTEEN.rsplit(' ', 1)[0]} friday")) == []
    assert overlap.matches_text(f"{THIRTEEN}!")[0].how == "ngram"
    assert not ItemIndex({"b": [asks(f"On Sunday {THIRTEEN}")]}, ngram=None).matches(asks(f"Then {THIRTEEN}"))


def test_shared_instruction_is_no_ngram_match() -> None:
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


def test_ngrams_include_choices() -> None:
    choices = (THIRTEEN, "no")
    assert found(ItemIndex({"b": [asks("Which?", choices)]}), asks(f"Is it so that {THIRTEEN}?")) == [("i", "ngram")]


def test_drawings_are_ignored() -> None:
    drawing = f"[asy]\n{THIRTEEN}\n[/asy]"
    assert not ItemIndex({"b": [asks(f"Find x. {drawing}")]}).matches(asks(f"Find the area. {drawing}"))


def test_each_item_matches_once_exact_matches_first() -> None:
    items = {
        "a": [asks(f"{THIRTEEN} and more", name="a1"), asks(THIRTEEN, name="a2"), asks(THIRTEEN, name="a3")],
        "b": [asks(f"First {THIRTEEN}", name="b1")],
    }
    matches = ItemIndex(items).matches(asks(THIRTEEN))
    assert [(m.benchmark, m.item, m.how) for m in matches] == [
        ("a", "a2", "exact"),
        ("a", "a3", "exact"),
        ("a", "a1", "ngram"),
        ("b", "b1", "ngram"),
    ]

"""Choices' log-likelihoods against one sequence at a time and against lm-eval; nothing finished is scored again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from gdpo.core.records import Question, write_records
from gdpo.models import choice_likelihood
from gdpo.models.choice_likelihood import Choices, Scorer, likeliest, log_likelihoods, most_likely
from gdpo.trainer.packing import Packing


def asks(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


ASKED = [
    (asks("1 + 2"), ["3", "4 5", "6 7 8 9"]),
    (asks("9 8 7 6 5 4 3 2 1 0 + + = 1"), ["1 2", "= 1 2"]),
    (asks("="), ["0", "0", "1", "1 + 1", "2"]),
    (asks("4 + 4"), ["8"]),
]


def directly(path: Path, conversation: list[dict[str, str]], choice: str) -> float:
    """log p(choice | prompt): the whole sequence in one forward pass, without padding, cache or a shared prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    prompt = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    before = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = torch.tensor(tokenizer(prompt + choice, add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        log_probs = model(input_ids=ids[None]).logits[0].log_softmax(-1)
    return sum(float(log_probs[at - 1, ids[at]]) for at in range(before, len(ids)))


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("share", ["always", "never"])
def test_log_likelihoods_are_those_of_each_sequence_alone(student, tmp_path, monkeypatch, batch_size, share):
    monkeypatch.setattr(
        choice_likelihood, "choose_packing", lambda model, pad, *_, **__: Packing(pad, 4096, share=share)
    )
    found = log_likelihoods(student, "float32", ASKED, batch_size, tmp_path / "cache.jsonl")
    for (conversation, choices), row in zip(ASKED, found, strict=True):
        assert row == pytest.approx([directly(student, conversation, choice) for choice in choices], abs=1e-5)


def test_a_prompt_is_computed_once_for_its_choices(student):
    """Attention of the random student takes a mask, so sharing is on; three choices behind one prompt are one row."""
    scorer = Scorer(student, "float32")
    assert scorer.choices.packing.share == "auto"
    before, ids = zip(*scorer.encode((asks("1 2 3 4 5 6 7 8 9"), ["1", "2", "3"])), strict=True)
    assert before[0] == before[1] == before[2]
    _, forwards = scorer.choices.packing.forwards([(before[0], ids)])
    assert [tuple(forward["input_ids"].shape) for forward in forwards] == [(1, len(before[0]) + 3)]


def test_a_choice_that_adds_no_token_has_no_likelihood(student, tmp_path):
    found = log_likelihoods(student, "float32", [(asks("1"), ["", "2"])], 8, tmp_path / "cache.jsonl")
    assert found[0][0] == -math.inf and math.isfinite(found[0][1])
    again = log_likelihoods(student, "float32", [(asks("1"), ["", "2"])], 8, tmp_path / "cache.jsonl")
    assert again == found


def test_white_space_before_a_choice_is_scored_with_it():
    """lm-eval's rule: of the prompt `ask\\n` the line break is the choice's, and so is a token that spans both."""
    pieces = {"ask": [1], "ask\nno": [1, 2, 3], "ask\n to": [1, 4]}

    class Tokenizer:
        def apply_chat_template(self, conversation, tokenize, add_generation_prompt):
            return "ask\n"

        def __call__(self, texts, add_special_tokens):
            return {"input_ids": [pieces[text] for text in texts]}

    scorer = object.__new__(Scorer)
    scorer.tokenizer = Tokenizer()
    assert scorer.encode((asks("?"), ["no", " to"])) == [([1], [2, 3]), ([1], [4])]


def test_shared_labels_are_calibrated_by_their_mean():
    """Of 20 questions "yes" has -3 on average, "no" -4: the ten with (-2, -4) say yes, those with (-4, -4) say no. By
    the character -4 / 3 beats -4 / 2, so that all would say yes; 19 questions are too few for a mean."""
    rows = [[-2.0, -4.0], [-4.0, -4.0]] * 10
    assert likeliest(rows, [["yes", "no"]] * 20) == [0, 1] * 10
    assert likeliest(rows[:19], [["yes", "no"]] * 19) == [0] * 19
    assert likeliest([*rows, [-3.0, -4.0]], [*[["yes", "no"]] * 20, ["no", "none"]])[-1] == 1


def test_the_most_likely_choice_is_so_by_the_character():
    """-4 over 4 characters is -1, -3 over 2 is -1.5; a tie goes to the first; an empty choice is out of question."""
    assert most_likely([-3.0, -4.0], ["no", "none"]) == 1
    assert most_likely([-2.0, -4.0], ["ab", "abcd"]) == 0
    assert most_likely([-0.0, -9.0], ["", "a"]) == 1


def test_killed_scoring_resumes_after_its_last_whole_batch(student, tmp_path, monkeypatch):
    whole = log_likelihoods(student, "float32", ASKED, 4, tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 4  # 5, 3, 2 and 1 choices: no two questions that follow each other by length fit into 4
    cache = tmp_path / "torn.jsonl"
    cache.write_text("".join(lines[:2]) + lines[2][:20])
    scored = []
    batch = Choices.batch
    monkeypatch.setattr(Choices, "batch", lambda self, encoded: scored.append(len(encoded)) or batch(self, encoded))
    assert log_likelihoods(student, "float32", ASKED, 4, cache) == whole
    assert len(scored) == 2
    assert cache.read_text() == (tmp_path / "whole.jsonl").read_text()
    monkeypatch.setattr(choice_likelihood, "Scorer", None)  # all is there: no model is loaded
    assert log_likelihoods(student, "float32", ASKED, 4, cache) == whole


def test_question_batches_are_bounded_and_longest_first(student):
    batches = [indices for indices, _ in Scorer(student, "float32").score(ASKED, 5)]
    counts = [sum(len(ASKED[i][1]) for i in indices) for indices in batches]
    assert sorted(i for indices in batches for i in indices) == [0, 1, 2, 3]
    assert batches[0][0] == 1
    assert all(count <= 5 for count in counts)


def test_the_benchmarks_harness_takes_the_same_choices(student, tmp_path):
    from gdpo.config.benchmarks import Benchmark
    from gdpo.evaluate.harness import evaluate

    questions = [
        Question(
            id=f"q{n}", domain="general", source="s", question=f"{n % 10} + {n // 10}", answer="A", grader="letter",
            choices=[str(n), f"{n % 7} {n % 3}", f"{n % 5} = {n % 4} + {n % 9}"],
        )
        for n in range(30)
    ]  # fmt: skip
    write_records(tmp_path / "items.jsonl", questions)
    benchmark = Benchmark(display="B", domain="general", source="s", kind="choose")
    rows = evaluate(student, "float32", {"b": (benchmark, tmp_path / "items.jsonl")}, 4)["b"]
    asked = [(asks(question.question), question.choices) for question in questions]
    found = log_likelihoods(student, "float32", asked, 16, tmp_path / "cache.jsonl")
    letters = ["ABC"[most_likely(row, choices)] for row, (_, choices) in zip(found, asked, strict=True)]
    assert letters == [row["output"] for row in rows]
    assert len(set(letters)) > 1

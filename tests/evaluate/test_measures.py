"""Likelihoods of gold answers and KL in both directions, against a plain computation."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdpo.core.records import Question, chat
from gdpo.evaluate import drift
from gdpo.evaluate.drift import Drift
from gdpo.evaluate.measures import Measures, cut_off, gold_answer
from tests.evaluate.test_drift import ANSWERED, moved

__all__ = ["moved"]


def question(number, text, answer, solution=None, grader="exact"):
    return Question(
        id=str(number), domain="math", source="s", question=text, answer=answer, grader=grader, solution=solution
    )


QUESTIONS = [
    question(0, "1 + 2", "3"),
    question(1, "1 + 2 + 3", "6", solution="= 6 6"),
    question(2, "6", "", grader="refusal"),
]


def plain_nll(model, tokenizer, prompt, answer):
    """Nats of an answer and its end, one sequence at a time."""
    start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    before = tokenizer(start, add_special_tokens=False)["input_ids"]
    reply = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    ids = torch.tensor([before + reply])
    log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
    return -sum(float(log_probs[len(before) - 1 + k, token]) for k, token in enumerate(reply)), len(reply)


def test_gold_answer_is_the_worked_response_where_there_is_one():
    assert [gold_answer(q) for q in QUESTIONS] == ["3", "= 6 6", ""]


@torch.inference_mode()
def test_likelihoods_are_those_of_single_sequences(student, moved, monkeypatch):
    """In the items' order, whatever shares a batch; an item without a gold answer has none."""
    measures = Measures(student, "float32")
    found = measures.measure(moved, {"b": QUESTIONS}, QUESTIONS[:1], [], [])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(moved), AutoTokenizer.from_pretrained(student)
    expected = [plain_nll(model, tokenizer, chat(q), gold_answer(q)) for q in QUESTIONS[:2]]
    assert found["gold"]["b"]["tokens"] == [tokens for _, tokens in expected] + [0]
    assert found["gold"]["b"]["nll"][:2] == pytest.approx([nll for nll, _ in expected], abs=1e-4)
    assert found["gold"]["b"]["nll"][2] is None
    assert found["text"]["nll"] == found["gold"]["b"]["nll"][:1]
    monkeypatch.setattr(drift, "MAX_TOKENS", 1)
    alone = measures.measure(moved, {"b": QUESTIONS}, [], [], [])
    assert alone["gold"]["b"]["nll"][:2] == pytest.approx(found["gold"]["b"]["nll"][:2], abs=1e-4)


def test_divergences_in_both_directions(student, moved):
    """Reverse along the policy's answers is the drift; forward is the drift of the reference from the policy."""
    found = Measures(student, "float32").measure(moved, {}, [], ANSWERED, ANSWERED[:1])["kl"]
    assert found["reverse"] == pytest.approx(Drift(student, "float32").measure(moved, ANSWERED)["kl"], rel=1e-6)
    assert found["forward"] == pytest.approx(Drift(moved, "float32").measure(student, ANSWERED[:1])["kl"], rel=1e-6)
    assert found["tokens"] == [6, 2]


def test_a_student_measured_against_itself(student):
    found = Measures(student, "float32").measure(student, {}, [], ANSWERED, [])["kl"]
    assert (found["reverse"], found["forward"]) == (0.0, None)


def test_answers_of_the_limit_are_cut_off(student):
    tokenizer = AutoTokenizer.from_pretrained(student)
    rows = [{"output": "1 + 2"}, {"output": "1"}, {"outputs": ["1", "1 + 2 + 3"]}]
    assert cut_off(tokenizer, rows, 3) == [0, 2]

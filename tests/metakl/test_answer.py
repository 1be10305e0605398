"""A base model's answers: what is generated and what is ranked, how often, with which seeds, and what is kept."""

from __future__ import annotations

import pytest

from gdpo.config.endpoint import Endpoint
from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.models import Model
from gdpo.core.records import Answers, Question
from gdpo.metakl import answer
from gdpo.metakl.answer import answers, ranks
from gdpo.models.choice_likelihood import log_likelihoods, most_likely
from gdpo.models.sampling_types import Sampling


def question(name: str, text: str, answer: str, choices=(), grader="exact") -> Question:
    return Question(
        id=name, domain="math", source="s", question=text, answer=answer, grader=grader, choices=list(choices)
    )


OPEN = [question("o1", "1 + 1", "2"), question("o2", "9 8 7 6 5 + 1", "5"), question("o3", "0", "1")]
LETTERED = [
    question("l1", "2 + 2", "B", ["5 5", "4", "1 2 3"], "letter"),
    question("l2", "7", "A", ["7", "1 + 1 + 1 + 1"], "letter"),
]
MIXED = [OPEN[0], LETTERED[0], OPEN[1], LETTERED[1], OPEN[2]]


@pytest.fixture
def scale_of(tmp_path, monkeypatch, student):
    """Micro, where tiny-s is the random student, with changed settings of proficiency."""
    monkeypatch.chdir(tmp_path)

    def made(model: Model | None = None, **changes):
        scale = load_scale("micro")
        settings = {"models": ["tiny-s"], "questions": None, "max_new_tokens": 6, "batch_size": 4, **changes}
        models = {**scale.models, "tiny-s": model or scale.model("tiny-s")}
        proficiency = type(scale.proficiency).model_validate(settings)
        scale = scale.model_copy(update={"proficiency": proficiency, "models": models})
        path = Layout(scale).model("tiny-s")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.symlink_to(student)
        return scale

    return made


@pytest.fixture
def sampled(monkeypatch):
    """What `complete` is called with; sample n of the i-th question says `i n`."""
    calls = []

    def complete(model, path, conversations, sampling, cache, extra):
        calls.append((path.name, [c[0]["content"] for c in conversations], sampling, cache.name))
        return [[f"{i} {n}" for n in range(sampling.samples)] for i in range(len(conversations))]

    monkeypatch.setattr(answer, "complete", complete)
    return calls


def test_greedy_answers_are_generated_and_graded(scale_of):
    """The random student says something to each; the same again from what is kept."""
    scale = scale_of()
    rows = answers(scale, "tiny-s", MIXED)
    assert [row.id for row in rows] == ["o1", "l1", "o2", "l2", "o3"]
    for row in rows:
        assert len(row.outputs) == len(row.verdicts) == 1
        assert row.accuracy == float(row.verdicts == ["right"])
    assert answers(scale, "tiny-s", MIXED) == rows
    assert len(list((Layout(scale).work / "answers").iterdir())) == 1


def test_greedy_answers_ignore_the_seed(scale_of, sampled):
    """Choices are lettered below the question where an answer is written."""
    answers(scale_of(seed=5, top_p=0.5), "tiny-s", MIXED)
    [(name, asked, sampling, _)] = sampled
    assert sampling == Sampling(1, 0.0, 1.0, 6, 4, 0)
    assert name == "tiny-s"
    assert asked[:2] == ["1 + 1", "2 + 2\nA. 5 5\nB. 4\nC. 1 2 3"]


def test_accuracy_is_the_share_of_samples_that_are_right(scale_of, sampled):
    """Sample n of the i-th question says `i n`. `0 3` is one of o1's four: 1/4; `1 9` none of o2's."""
    asked = [question("o1", "1 + 1", "0 3"), question("o2", "1", "1 9")]
    rows = answers(scale_of(samples=4, temperature=0.7, top_p=0.9, seed=5), "tiny-s", asked)
    verdicts = ["wrong", "wrong", "wrong", "right"]
    assert rows[0] == Answers(id="o1", outputs=["0 0", "0 1", "0 2", "0 3"], verdicts=verdicts, accuracy=0.25)
    assert rows[1].accuracy == 0.0
    assert sampled[0][2] == Sampling(4, 0.7, 0.9, 6, 4, 5)


def test_choices_are_ranked_and_open_questions_sampled(scale_of, sampled, student, tmp_path):
    scale = scale_of(choices="likelihood")
    rows = {row.id: row for row in answers(scale, "tiny-s", MIXED)}
    assert list(rows) == ["o1", "l1", "o2", "l2", "o3"]
    assert sampled[0][1] == ["1 + 1", "9 8 7 6 5 + 1", "0"]
    assert [rows[name].outputs for name in ("o1", "o2", "o3")] == [["0 0"], ["1 0"], ["2 0"]]
    asked = [([{"role": "user", "content": q.question}], q.choices) for q in LETTERED]  # no lettered list
    found = log_likelihoods(student, "float32", asked, 4, tmp_path / "direct.jsonl")
    for q, row in zip(LETTERED, found, strict=True):
        letter = "ABC"[most_likely(row, q.choices)]
        verdict = "right" if letter == q.answer else "wrong"
        expected = Answers(id=q.id, outputs=[letter], verdicts=[verdict], accuracy=float(letter == q.answer))
        assert rows[q.id] == expected


def test_ranked_questions_have_one_output(scale_of, sampled):
    scale = scale_of(choices="likelihood", samples=3, temperature=1.0)
    counts = [len(row.outputs) for row in answers(scale, "tiny-s", MIXED)]
    assert counts == [3, 1, 3, 1, 3]


def test_cache_key_covers_everything_that_answers_depend_on(scale_of, sampled):
    """Not by which other models answer; but by the questions' text, where their ids stay the same."""
    answers(scale_of(), "tiny-s", OPEN)
    answers(scale_of(models=["tiny-s", "tiny-m"]), "tiny-s", OPEN)
    answers(scale_of(max_new_tokens=7), "tiny-s", OPEN)
    answers(scale_of(), "tiny-s", [OPEN[0].model_copy(update={"question": "1 + 2"}), *OPEN[1:]])
    names = [name for *_, name in sampled]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_endpoint_model_samples_every_answer(scale_of, sampled):
    """It tells no likelihoods; and a changed sample of questions finds what was paid for."""
    remote = Model(display="R", endpoint=Endpoint(base_url="http://127.0.0.1:1/v1", model="m", key="SOME_KEY"))
    scale = scale_of(remote, choices="likelihood")
    assert not ranks(scale.proficiency, remote, LETTERED[0])
    answers(scale, "tiny-s", MIXED)
    answers(scale, "tiny-s", MIXED[:2])
    assert len(sampled[0][1]) == 5
    assert sampled[0][3] == sampled[1][3]


def test_ranks_only_lettered_choices(scale_of):
    scale = scale_of(choices="likelihood")
    model = scale.model("tiny-s")
    assert ranks(scale.proficiency, model, LETTERED[0])
    assert not ranks(scale.proficiency, model, OPEN[0])
    assert not ranks(scale.proficiency, model, LETTERED[0].model_copy(update={"choices": []}))
    assert not ranks(scale.proficiency, model, LETTERED[0].model_copy(update={"grader": "exact"}))
    assert not ranks(scale_of().proficiency, model, LETTERED[0])

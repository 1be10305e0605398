"""The teacher answers each training set under that set's own settings, here or at its endpoint."""

from __future__ import annotations

import pytest

from gdpo.config.endpoint import Endpoint
from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.models import Model, RespondChanges
from gdpo.core.errors import UserError
from gdpo.core.files import read_json
from gdpo.core.provenance import provenance_path
from gdpo.core.records import Question, Responses, read_records, write_records
from gdpo.models import sampling as models_sampling
from gdpo.students.steps import model as make_model
from gdpo.teach.steps import respond
from tests.fault_server import FaultServer

QUESTION = Question(id="q", domain="math", source="chain2", question="?", answer="1", grader="exact", solution="gold")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What `complete` is called with; the answer is always 1."""
    monkeypatch.chdir(tmp_path)
    calls = []

    def complete(model, path, conversations, sampling, cache, extra):
        calls.append((model, path, conversations, sampling, cache))
        extra["endpoint"] = {"requests": 7}
        return [["1"] * sampling.samples for _ in conversations]

    monkeypatch.setattr(models_sampling, "complete", complete)
    return calls


def test_training_sets_own_teacher_and_temperature_are_used(asked):
    scale = load_scale("tiny")
    changed = scale.trainset("metakl").model_copy(
        update={"respond": RespondChanges(teacher="tiny-s", temperature=3.0, group_size=2)}
    )
    scale = scale.model_copy(update={"trainsets": {**scale.trainsets, "metakl": changed}})
    for name in ("metakl", "union"):
        write_records(Layout(scale).trainset(name), [QUESTION.model_copy(update={"solution": None})])
        respond(scale, name)
    found = [(path.name, sampling.temperature, sampling.samples) for _, path, _, sampling, _ in asked]
    assert found == [("tiny-s", 3.0, 2), ("tiny-teacher", 1.5, 10)]
    written = [read_records(Layout(scale).responses(name), Responses)[0].model for name in ("metakl", "union")]
    assert written == ["tiny-s", "tiny-teacher"]


ENDPOINT = Endpoint(base_url="http://127.0.0.1:1/v1", model="m", key="SOME_KEY")


def taught_by(model: Model):
    """Tiny, with `model` in its teacher's place."""
    scale = load_scale("tiny")
    return scale.model_copy(update={"models": {**scale.models, "tiny-teacher": model}})


def cache_of(asked, model: Model, questions: int = 1) -> str:
    scale = taught_by(model)
    posed = [QUESTION.model_copy(update={"id": f"q{n}"}) for n in range(questions)]
    write_records(Layout(scale).trainset("metakl"), posed)
    respond(scale, "metakl")
    return asked[-1][4].name


def test_key_budget_and_pace_do_not_repeat_requests(asked, monkeypatch):
    def cache(questions: int = 1, **changes) -> str:
        endpoint = Endpoint.model_validate({"base_url": "http://127.0.0.1:1/v1", "model": "m", **changes})
        return cache_of(asked, Model(display="T", endpoint=endpoint), questions)

    monkeypatch.setenv("SOME_KEY", "sk-secret")
    first = cache()
    monkeypatch.setenv("SOME_KEY", "sk-another")
    same = {"key": None, "concurrency": 3, "timeout": 7, "attempts": 1, "backoff": 9, "max_rephrasings": 1}
    same |= {
        "base_url": "https://example.org/v1",
        "price": {"prompt": 1, "completion": 2},
        "budget": {"money": 1, "tokens": 5},
    }
    assert cache(**same) == first
    assert cache(questions=2) == cache(model="n") == first  # requests are told apart within the file


def test_overlapping_training_sets_share_responses(tmp_path, monkeypatch):
    """2 and 3 questions, 2 of them the same, of 3 completions each: 9 requests."""
    monkeypatch.chdir(tmp_path)
    with FaultServer(lambda body, number: f"answer {number};") as server:
        scale = taught_by(Model(display="T", endpoint=Endpoint(base_url=server.url, model="m", key=None)))
        scale = scale.model_copy(
            update={"respond": scale.respond.model_copy(update={"include_gold": False, "group_size": 3})}
        )
        asked = [QUESTION.model_copy(update={"id": f"q{n}", "question": f"{n}?"}) for n in range(3)]
        for name, questions, received in (("hard-only", asked[:2], 6), ("metakl", asked[::-1], 9)):
            write_records(Layout(scale).trainset(name), questions)
            respond(scale, name)
            assert len(server.received) == received
    first, second = (read_records(Layout(scale).responses(name), Responses) for name in ("hard-only", "metakl"))
    assert [r.completions for r in second[::-1][:2]] == [r.completions for r in first]
    assert [path.name for path in (Layout(scale).work / "endpoints").iterdir()] == ["tiny-teacher.jsonl"]


def test_local_teachers_cache_key_covers_all_dependencies(asked):
    local = Model(display="T", reference="dir:x")
    names = {cache_of(asked, model) for model in (local, local.model_copy(update={"display": "U"}))}
    assert len(names) == 1
    names |= {cache_of(asked, local.model_copy(update={"engine": "vllm"})), cache_of(asked, local, questions=2)}
    assert len(names) == 3


def test_gold_solution_comes_first(asked):
    scale = taught_by(Model(display="T", endpoint=ENDPOINT))
    scale = scale.model_copy(
        update={"respond": scale.respond.model_copy(update={"include_gold": True, "group_size": 3})}
    )
    write_records(Layout(scale).trainset("metakl"), [QUESTION])
    respond(scale, "metakl")
    [responses] = read_records(Layout(scale).responses("metakl"), Responses)
    assert (responses.completions, responses.gold) == (["gold", "1", "1"], 1)
    assert read_json(provenance_path(Layout(scale).responses("metakl")))["endpoint"] == {"requests": 7}


def test_gold_completion_of_choices_and_refusals(asked):
    scale = taught_by(Model(display="T", endpoint=ENDPOINT))
    scale = scale.model_copy(
        update={"respond": scale.respond.model_copy(update={"include_gold": True, "group_size": 3})}
    )
    lettered = {"id": "l", "grader": "letter", "choices": ["red", "green"], "answer": "B", "solution": None}
    refusing = {"id": "r", "grader": "refusal", "answer": "", "solution": None}
    posed = [QUESTION, *(Question(**QUESTION.model_dump() | changes) for changes in (lettered, refusing))]
    write_records(Layout(scale).trainset("metakl"), posed)
    respond(scale, "metakl")
    found = read_records(Layout(scale).responses("metakl"), Responses)
    assert [r.completions for r in found] == [["gold", "1", "1"], ["B. green", "1", "1"], ["1", "1"]]
    assert [r.gold for r in found] == [1, 1, 0]
    assert read_json(provenance_path(Layout(scale).responses("metakl")))["gold"] == 2


def test_a_model_at_an_endpoint_is_not_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"models\.tiny-teacher: found a model at an endpoint"):
        make_model(taught_by(Model(display="T", endpoint=ENDPOINT)), "tiny-teacher")

"""Files that do not belong together: each step names them instead of going on with the wrong ones."""

from __future__ import annotations

import re

import pytest

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.core.files import write_csv
from gdpo.core.records import Answers, Group, Question, Responses, write_records
from gdpo.metakl import steps
from gdpo.teach import steps as teach
from tests.refusal import refused


def question(name: str, units=("a",)) -> Question:
    return Question(
        id=name, domain="math", source="s", question=f"{name}?", answer="1", grader="exact", units=list(units)
    )


def group(name: str) -> Group:
    prompt = [{"role": "user", "content": f"{name}?"}]
    return Group(id=name, domain="math", prompt=prompt, completions=["1", "2"], rewards=[2.0, 0.0])


@pytest.fixture
def layout(tmp_path, monkeypatch) -> Layout:
    """Two annotated questions, answered by both base models of micro, with their proficiencies."""
    monkeypatch.chdir(tmp_path)
    layout = Layout(load_scale("micro"))
    write_records(layout.annotated, [question("q1"), question("q2", ["b"])])
    for model in layout.scale.proficiency.models:
        write_records(layout.answers(model), [answer("q1", 1.0), answer("q2", 0.0)])
    steps.proficiency(layout.scale)
    return layout


def answer(name: str, accuracy: float) -> Answers:
    return Answers(id=name, outputs=["1"], verdicts=["right" if accuracy else "wrong"], accuracy=accuracy)


def test_proficiency_refuses_answers_to_unknown_questions(layout):
    for model in layout.scale.proficiency.models:
        write_records(layout.answers(model), [answer("ghost", 1.0)])
    with refused(found="ghost", expected="questions of results/micro/annotated.jsonl"):
        steps.proficiency(layout.scale)


def test_proficiency_refuses_empty_answers(layout):
    for model in layout.scale.proficiency.models:
        write_records(layout.answers(model), [])
    with refused(found="no answer", expected="one or more"):
        steps.proficiency(layout.scale)


@pytest.mark.parametrize("units", [[], [{"unit": "a", "average": 1.0}, {"unit": "c", "average": 0.0}]])
def test_select_refuses_proficiencies_of_other_units(layout, units):
    write_csv(layout.unit_proficiency, ["unit", "average"], units)
    with refused(path="unit_proficiency.csv", found="others", expected="the units "):
        steps.select(layout.scale, "metakl")


def test_select_refuses_non_numeric_proficiencies(layout):
    write_csv(layout.proficiency, ["id", "average"], [{"id": "q1", "average": "high"}])
    with refused(path="proficiency.csv", line=2, found="q1, high", expected="columns"):
        steps.select(layout.scale, "metakl")


def test_reward_refuses_responses_in_another_order(layout):
    write_records(layout.trainset("metakl"), [question("q1"), question("q2")])
    given = [Responses(id=name, model="m", completions=["1", "2"]) for name in ("q2", "q1")]
    write_records(layout.responses("metakl"), given)
    with refused(expected=re.compile(r"^responses to the questions of .*metakl\.jsonl")):
        teach.reward(layout.scale, "metakl")
    assert not layout.groups("metakl").exists()


def test_part_refuses_missing_groups(layout):
    write_records(layout.groups("metakl"), [group("q1")])
    write_records(layout.trainset("metakl-half"), [question("q1"), question("q2")])
    with refused(found="no group of q2", expected="one"):
        teach.part(layout.scale, "metakl-half")


def test_quality_needs_an_encoder(layout):
    with refused(key="encoder", found="none"):
        steps.quality(layout.scale)

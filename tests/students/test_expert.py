"""An expert is an ordinary checkpoint, tuned on gold completions that a seed draws; a killed call goes on."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.models import Model, Tuned
from gdpo.core.files import read_json, write_json
from gdpo.core.records import Question, write_records
from gdpo.students import common, sft
from gdpo.students.expert import draw
from gdpo.students.steps import model as make_model
from tests.refusal import refused
from tests.students.test_students import method


def question(number: int, **changes) -> Question:
    given = {"id": f"q{number}", "domain": "math", "source": "chain2", "question": f"{number % 10} + 1", "answer": "1"}
    return Question(**given | {"grader": "exact", "solution": f"= {(number + 1) % 10}"} | changes)


POOL = [
    *(question(number) for number in range(6)),
    question(6, source="other"),
    question(7, solution=None),
    question(8, source="lettered", grader="letter", choices=["1", "2"], answer="B", solution=None),
    question(9, source="refused", grader="refusal", answer="", solution=None),
]


def tuned(**changes) -> Tuned:
    given = {"base": "tiny-s", "sources": ["chain2", "lettered"], "questions": 4, "method": method("sft"), "seed": 3}
    return Tuned(**given | changes)


def test_draw_takes_gold_questions_of_the_sources_by_seed():
    """q0 to q5 and the lettered q8 are golden and of the sources: seven, of which four, or all of them, are drawn."""
    groups, counts = draw(POOL, tuned(questions=99))
    assert [group.id for group in groups] == [*(f"q{number}" for number in range(6)), "q8"]
    assert groups[0].completions == ["= 1"] and groups[0].prompt == [{"role": "user", "content": "0 + 1"}]
    assert groups[-1].completions == ["B. 2"]
    whole = {"chain2": {"pool": 7, "gold": 6, "drawn": 6}, "lettered": {"pool": 1, "gold": 1, "drawn": 1}}
    assert counts == whole
    drawn = [[group.id for group in draw(POOL, tuned(seed=seed))[0]] for seed in range(20)]
    assert all(len(set(ids)) == 4 and ids == sorted(ids) for ids in drawn)
    assert drawn[3] == [group.id for group in draw(POOL, tuned())[0]]
    assert {name for ids in drawn for name in ids} == {group.id for group in groups}  # nobody is left out always


def test_draw_refuses_a_pool_without_gold():
    with refused(key="tuned.sources", found="no question with a gold solution in refused"):
        draw(POOL, tuned(sources=["refused"]))


def test_an_expert_is_tuned_by_sft_alone():
    with pytest.raises(ValidationError, match="found dpo, expected sft"):
        tuned(method=method("dpo"))


@pytest.fixture
def scale(student, tmp_path, monkeypatch):
    """Micro in a directory of its own, with the random student as `tiny-s` and an expert tuned from it."""
    monkeypatch.chdir(tmp_path)
    micro = load_scale("micro")
    expert = Model(display="Expert", tuned=tuned())
    made = micro.model_copy(update={"models": {**micro.models, "expert": expert}})
    base = Layout(made).model("tiny-s")
    base.mkdir(parents=True)
    for file in student.iterdir():
        (base / file.name).symlink_to(file)
    write_json(base / "provenance.json", {"config_hash": "h"})
    write_records(Layout(made).decontaminated, POOL)
    return made


def test_an_expert_is_an_ordinary_checkpoint(scale, student):
    make_model(scale, "expert")
    out = Layout(scale).model("expert")
    before, after = (load_file(path / "model.safetensors") for path in (student, out))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for name in ("config.json", "tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_text() == (student / name).read_text()
    record = read_json(out / "provenance.json")
    assert record["sources"]["chain2"]["drawn"] + record["sources"]["lettered"]["drawn"] == 4
    assert (record["step"], record["seeds"]) == ("model", {"tuned": 3})
    assert (record["groups"], record["steps"], record["too_long"]) == (4, 2, 0)
    assert len(read_json(out / "train.json")["log"]) == 2
    assert not (Layout(scale).work / "model").exists() or not list((Layout(scale).work / "model").iterdir())


def test_killed_expert_resumes(scale, monkeypatch):
    """Killed at step 2 of 2, and made again from the checkpoint after step 1: the same bytes as in one go."""
    from transformers import TrainerCallback

    make_model(scale, "expert")
    whole = (Layout(scale).model("expert") / "model.safetensors").read_bytes()
    monkeypatch.setattr(common, "CHECKPOINT_STEPS", 1)
    fit, seen = sft.fit, []

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            seen.append(state.global_step)
            if state.global_step == 1 and seen[0] == 0:
                raise KeyboardInterrupt

    monkeypatch.setattr(sft, "fit", lambda trainer, run: (trainer.add_callback(Kill()), fit(trainer, run)))
    Layout(scale).model("expert").rename(Layout(scale).model("first"))
    with pytest.raises(KeyboardInterrupt):
        make_model(scale, "expert")
    assert seen == [0, 1] and not Layout(scale).model("expert").exists()
    seen.clear()
    make_model(scale, "expert")
    assert seen == [1]  # the first step was not taken again
    assert (Layout(scale).model("expert") / "model.safetensors").read_bytes() == whole


def test_expert_without_gold_is_named(scale):
    write_records(Layout(scale).decontaminated, POOL[-1:])
    with refused(key="models.expert.tuned.sources", found="no question"):
        make_model(scale, "expert")


def test_expert_depends_on_its_base_and_the_pool(tmp_path):
    from tests.workflow.test_own_scales import jobs, planned
    from tests.workflow.test_own_scales import scale as written

    given = tuned(base="tiny-m", sources=["chain2"]).model_dump(mode="json", exclude_none=True)
    path = written(tmp_path, models={"expert": {"display": "Expert", "tuned": given}})
    plan = planned(tmp_path, path, "results/mine/models/expert")
    assert jobs(plan) == {"model": 2, "benchmark": 1, "sources": 1, "decontaminate": 1}
    assert jobs(planned(tmp_path, path, "results/mine/models/tiny-m")) == {"model": 1}

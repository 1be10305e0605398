"""The teacher answers each training set under that set's own settings."""

from __future__ import annotations

from gdpo import generate
from gdpo.config import load_scale
from gdpo.layout import Layout
from gdpo.records import Question, Responses, read_records, write_records
from gdpo.schema import RespondChanges
from gdpo.teach.steps import respond


def test_a_sets_own_teacher_and_temperature_are_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = load_scale("tiny")
    changed = scale.trainset("metakl").model_copy(
        update={"respond": RespondChanges(teacher="tiny-s", temperature=3.0, group_size=2)}
    )
    scale = scale.model_copy(update={"trainsets": {**scale.trainsets, "metakl": changed}})
    question = Question(id="q", domain="math", source="chain2", question="?", answer="1", grader="exact")
    asked = []

    def complete_all(path, dtype, conversations, sampling, cache):
        asked.append((path.name, sampling.temperature, sampling.samples))
        return [["1"] * sampling.samples for _ in conversations]

    monkeypatch.setattr(generate, "complete_all", complete_all)
    for name in ("metakl", "union"):
        write_records(Layout(scale).trainset(name), [question])
        respond(scale, name)
    assert asked == [("tiny-s", 3.0, 2), ("tiny-teacher", 1.5, 10)]
    written = [read_records(Layout(scale).responses(name), Responses)[0].model for name in ("metakl", "union")]
    assert written == ["tiny-s", "tiny-teacher"]

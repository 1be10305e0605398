"""A training set as a Hugging Face data set directory: loaded by its own library, trained on by GDPOTrainer."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml

from gdpo.core.errors import UserError
from gdpo.core.files import write_jsonl
from gdpo.core.records import Group, Parts, Question, read_records, write_records
from gdpo.metakl import steps
from gdpo.metakl.export import export, front_matter, group_features, question_features
from tests.metakl import small_trainset
from tests.refusal import refused


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return small_trainset.make()


@pytest.fixture
def load(tmp_path, layout):
    """`load_dataset` of the exported directory, its cache in the test's own."""
    from datasets import load_dataset

    def loaded(config: str):
        directory = str(layout.export("metakl").absolute())
        return load_dataset(directory, config, split="train", cache_dir=str(tmp_path / "cache"))

    return loaded


@pytest.fixture
def answered(layout, groups):
    """The last four of the groups, as groups of the set's four questions."""
    ids = [question.id for question in read_records(layout.trainset("metakl"), Question)]
    made = [group.model_copy(update={"id": name}) for name, group in zip(ids, groups[-4:], strict=True)]
    write_records(layout.groups("metakl"), made)
    return made


def matter(layout) -> dict:
    text = (layout.export("metakl") / "README.md").read_text()
    return yaml.safe_load(text.split("---\n")[1])


def test_questions_load_as_they_were_selected_with_their_licences(layout, load):
    steps.export(layout.scale, "metakl")
    rows = load("questions").to_list()
    assert [row.pop("licence") for row in rows] == ["MIT", "MIT", "CC-BY-NC-SA-4.0", "MIT"]
    assert [Question(**row) for row in rows] == read_records(layout.trainset("metakl"), Question)
    assert sorted(small_trainset.listing(layout.export("metakl"))) == [
        "README.md", "data/questions.parquet", "provenance.json",
    ]  # fmt: skip


def test_groups_load_and_train(layout, load, student, answered, tmp_path):
    """Three of the four groups have two different rewards; the last is tied and is skipped."""
    from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer

    assert export(layout, "metakl") == "4 questions, 4 groups"
    rows = load("groups")
    assert [Group(**row) for row in rows.to_list()] == answered
    args = GDPOConfig(str(tmp_path / "out"), max_steps=1, report_to=[], use_cpu=True)
    trainer = GDPOTrainer(str(student), args=args, train_dataset=rows)
    assert trainer.skipped_groups == 1
    assert len(trainer.train_dataset) == 3
    assert trainer.train().global_step == 1


def test_groups_without_parts_load(layout, load, answered):
    rewarded = [group.model_copy(update={"parts": []}) for group in answered]
    write_records(layout.groups("metakl"), rewarded)
    export(layout, "metakl")
    assert [Group(**row) for row in load("groups").to_list()] == rewarded


def test_groups_of_other_questions_are_refused(layout, answered):
    write_records(layout.groups("metakl"), answered[:3])
    with refused(path="groups/metakl.jsonl", expected="a group for each question"):
        export(layout, "metakl")
    assert not layout.export("metakl").exists()


def test_equal_inputs_give_equal_bytes(layout, answered):
    export(layout, "metakl")
    first = small_trainset.listing(layout.export("metakl"))
    export(layout, "metakl")
    assert small_trainset.listing(layout.export("metakl")) == first


def test_export_without_groups_removes_old_ones(layout, answered):
    export(layout, "metakl")
    assert [config["config_name"] for config in matter(layout)["configs"]] == ["questions", "groups"]
    layout.groups("metakl").unlink()
    assert export(layout, "metakl") == "4 questions, no groups (no teacher has answered them yet)"
    assert [config["config_name"] for config in matter(layout)["configs"]] == ["questions"]
    assert sorted(small_trainset.listing(layout.export("metakl"))) == ["README.md", "data/questions.parquet"]


def test_invalid_groups_keep_the_old_export(layout):
    export(layout, "metakl")
    first = small_trainset.listing(layout.root / "export")
    write_jsonl(layout.groups("metakl"), [{"id": "a"}])
    with pytest.raises(UserError, match=r"metakl.jsonl, line 1, domain"):
        export(layout, "metakl")
    assert small_trainset.listing(layout.root / "export") == first


def test_imported_groups_are_not_exported(layout):
    with refused(key="trainsets.taken", found="imported groups"):
        export(layout, "taken")
    assert not layout.export("taken").exists()


def test_front_matter_has_the_hubs_fields(layout):
    export(layout, "metakl")
    found = matter(layout)
    assert (found["license"], found["license_name"]) == ("other", "mixed")
    assert found["license_details"] == "MIT, CC-BY-NC-SA-4.0"
    assert found["size_categories"] == ["n<1K"]
    [config] = found["configs"]
    assert config["data_files"] == [{"split": "train", "path": "data/questions.parquet"}]


@pytest.mark.parametrize(
    ("licences", "licence", "size"),
    [
        ({"Apache-2.0": 999}, "apache-2.0", "n<1K"),
        ({"Apache-2.0": 1000}, "apache-2.0", "1K<n<10K"),
        ({"MIT": 5000, "ODC-By": 5000}, "other", "10K<n<100K"),
        ({"a licence of its own": 2_000_000}, "other", "n>1M"),
    ],
)
def test_one_known_licence_is_named_and_others_are_other(layout, licences, licence, size):
    found = yaml.safe_load(front_matter(layout, "metakl", Counter(licences), ["questions"]))
    assert (found["license"], found["size_categories"]) == (licence, [size])


def test_features_cover_every_record_field():
    assert set(question_features()) == {*Question.model_fields, "licence"}
    assert set(group_features()) == set(Group.model_fields)
    assert set(group_features()["parts"].feature) == set(Parts.model_fields)

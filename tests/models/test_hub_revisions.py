"""A branch of the Hub is used at the commit of its first use here, by models and data sets alike."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gdpo.config.data import HubSource
from gdpo.config.models import Model
from gdpo.metakl import sources
from gdpo.models import checkpoints, hub_revisions
from tests.refusal import refused

FIRST, LATER = "1" * 40, "2" * 40


@pytest.fixture
def hub(student, tmp_path, monkeypatch) -> SimpleNamespace:
    """A Hub whose branches are at `now`, with one model; `asked` are the revisions of it that were asked for."""
    state = SimpleNamespace(now=FIRST, asked=[])

    def snapshot_download(name: str, revision: str, allow_patterns: list[str]) -> str:
        state.asked.append(revision)
        commit = revision if len(revision) == 40 else state.now
        (tmp_path / "snapshots").mkdir(exist_ok=True)
        if not (tmp_path / "snapshots" / commit).exists():
            (tmp_path / "snapshots" / commit).symlink_to(student)
        return str(tmp_path / "snapshots" / commit)

    def dataset_info(_: object, path: str, revision: str, timeout: int) -> SimpleNamespace:
        state.asked.append(revision)
        return SimpleNamespace(sha=state.now)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    return state


def test_model_revision_is_pinned_at_first_use(hub, tmp_path, capsys, monkeypatch):
    model = Model(display="", reference="hub:owner/name@main")
    monkeypatch.setattr("gdpo.core.terminal._terminal", sys.stderr)
    assert checkpoints.fetch(model, tmp_path / "out") == {"revision": FIRST}
    said = f"model owner/name: main is commit {FIRST} here from now on, whatever the Hub has later"
    assert said in capsys.readouterr().err
    hub.now = LATER
    assert checkpoints.fetch(model, tmp_path / "again") == {"revision": FIRST}
    assert checkpoints.directory("hub:owner/name@main").name == FIRST  # as a judge or an encoder
    other = model.model_copy(update={"reference": "hub:owner/other@main"})
    assert checkpoints.fetch(other, tmp_path / "other") == {"revision": LATER}
    pinned = model.model_copy(update={"reference": f"hub:owner/name@{LATER}"})
    assert checkpoints.fetch(pinned, tmp_path / "pinned") == {"revision": LATER}
    assert hub.asked == ["main", FIRST, FIRST, "main", LATER]
    assert len(list(hub_revisions.PINS.iterdir())) == 2
    assert checkpoints.fetch(Model(display="", reference=f"dir:{tmp_path / 'out'}"), tmp_path / "copy") == {}


@pytest.mark.parametrize("named", ["main", None, "a/branch"])
def test_dataset_revision_is_pinned_at_first_use(hub, named):
    source = HubSource(path="owner/set", split="train", revision=named)
    assert sources._resolve_commit(source) == FIRST
    hub.now = LATER
    assert sources._resolve_commit(source) == FIRST
    assert hub.asked == [named]
    (path,) = hub_revisions.PINS.iterdir()
    path.unlink()
    assert sources._resolve_commit(source) == LATER


def test_pin_that_is_no_commit_is_refused():
    hub_revisions.pin("model", "owner/name", "main", "no commit")
    assert hub_revisions.pinned_revision("model", "owner/name", "main") == "main"
    hub_revisions.pin("model", "owner/name", "main", FIRST)
    assert hub_revisions.pinned_revision("dataset", "owner/name", "main") == "main"
    path: Path = next(hub_revisions.PINS.iterdir())
    path.write_text("../../elsewhere\n")
    with refused(path="model--owner--name@main", found="'../../elsewhere'", expected="a commit"):
        hub_revisions.pinned_revision("model", "owner/name", "main")

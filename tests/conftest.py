"""A random student of a few thousand weights and groups for it, shared by the tests that train."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from gdpo.cli import preload
from tests.robustness.outcomes import Outcomes

# A `make` that a test starts is no part of the one that started the tests: that would print each directory it enters.
for name in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "GDPO_AGAIN"):
    os.environ.pop(name, None)

PER_TEST = ("PYTEST_CURRENT_TEST", "PYTEST_VERSION")  # what pytest tells of the test that runs, and takes back

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' ' }}"
    "{% if m['role'] == 'assistant' %}{{ '<|end|> ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


def pytest_addoption(parser):
    parser.addoption("--outcomes", type=Path, metavar="DIR", help="write what each case came to as DIR/SUITE.csv")


def pytest_configure(config):
    if directory := config.getoption("--outcomes"):
        config.pluginmanager.register(Outcomes(directory.absolute(), writes=not hasattr(config, "workerinput")))


def pytest_collection_modifyitems(items):
    """All of micro first, then other workflows, then what else is long: a run of two must not end with the longest."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    micro = "test_micro.py"
    items.sort(key=lambda i: (i.path.name != micro, i.path.parent.name != "workflow", i.path not in long))


@pytest.fixture(scope="module", autouse=True)
def measured(request):
    """Coverage goes on into what tests start, unless their file is marked as `unmeasured`."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("unmeasured"):
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory):
    """The environment in which a `gdpo` is a child of one parent that has imported everything (gdpo.cli.preload).

    For tests that start many; one that is about how a process starts gives it another environment.
    """
    directory = tmp_path_factory.mktemp("preloaded")
    with pytest.MonkeyPatch.context() as patch:
        for name in (*PER_TEST, preload.SOCKET):
            patch.delenv(name, raising=False)
        if preload.available():
            preload.start(directory / "preload.log", offline=False)
        yield dict(os.environ)


@pytest.fixture(autouse=True)
def revisions_of_its_own(tmp_path, monkeypatch):
    """What a test finds on its Hub is not kept for the next one."""
    monkeypatch.setattr("gdpo.models.hub_revisions.PINS", tmp_path / "revisions")


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    """The path of a random Llama checkpoint whose words are the digits, with a chat template."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    words = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<unk>", "+", "=", *map(str, range(10))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        unk_token="<unk>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.max_new_tokens = 7
    path = tmp_path_factory.mktemp("student")
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def groups():
    """Eight sums with four completions each, the first two of them right; the last group is tied."""
    from gdpo.core.records import Group, Parts

    draw = random.Random(0)
    made = []
    for number in range(8):
        a, b = draw.randrange(5), draw.randrange(5)
        completions = [f"{a + b}", f"= {a + b}", f"{(a + b + 1) % 10}", f"{(a + b + 2) % 10} {a}"]
        rewards = [2.0, 1.5, 0.5, 0.0] if number % 2 else [1.5, 1.5, 0.5, 0.5]
        if number == 7:
            rewards = [1.0] * 4
        parts = [
            Parts(verdict="right" if r > 1 else "wrong", correctness=r, format=0, length=0, total=r) for r in rewards
        ]
        made.append(
            Group(
                id=f"q{number}",
                domain="math",
                prompt=[{"role": "user", "content": f"{a} + {b}"}],
                completions=completions,
                rewards=rewards,
                parts=parts,
            )
        )
    return made

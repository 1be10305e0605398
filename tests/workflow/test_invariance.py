"""Ways to compute one training, through the real `gdpo train`: they may differ by rounding and by nothing else.

Every variant trains the same student on the same groups from the same seed in float32 and in float64, and its weights
are compared with those of the plain run: relative L2 distance at most 1e-5 in float32 and, in float64, no weight
further off than 1e-10. `pytest -s` prints the table of distances; it is written beside the runs as invariance.csv.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import yaml

from gdpo.core.project import CONFIG
from gdpo.core.records import Group, write_records

pytestmark = [pytest.mark.long, pytest.mark.unmeasured]
SCALE = "invariance"
DTYPES = ("float32", "float64")
RELATIVE_L2, ELEMENTWISE = 1e-5, 1e-10
LORA = {"r": 2, "alpha": 4}
# 22 groups in batches of 8 for 2 epochs: 6 steps, each epoch's last one of 6 groups.
PLAIN = {
    "display": "GDPO",
    "trainer": "gdpo",
    "learning_rate": 3e-3,
    "epochs": 2,
    "batch_size": 8,
    "micro_batch_size": 8,
    "warmup_ratio": 0.0,
    "max_length": 64,
    "objective": {"beta": 0.1, "pairs": "adjacent", "link": "sigmoid", "advantage": "shifted", "length": "sum"},
}
# What changes, and the run it must equal.
VARIANTS = {
    "plain": ({}, None),
    "cache-hit": ({}, "plain"),
    "accumulated": ({"micro_batch_size": 1}, "plain"),
    "uneven": ({"micro_batch_size": 3}, "plain"),
    "live-reference": ({"forward": {"precompute_ref_log_probs": False}}, "plain"),
    "shared": ({"forward": {"share_prompts": "always"}}, "plain"),
    "separate": ({"forward": {"share_prompts": "never"}}, "shared"),
    "padded": ({"forward": {"share_prompts": "never", "bucket_by_length": False}}, "separate"),
    "split": ({"forward": {"max_forward_tokens": 32, "max_activation_tokens": 48}}, "plain"),
    "chunked-head": ({"forward": {"max_logits": 64}}, "plain"),
    "lora": ({"lora": LORA}, None),
    "lora-live": ({"lora": LORA, "forward": {"precompute_ref_log_probs": False}}, "lora"),
    "lora-split": ({"lora": LORA, "micro_batch_size": 1, "forward": {"max_activation_tokens": 1}}, "lora"),
    "long": ({"epochs": 50}, None),  # 150 steps, with checkpoints at 50 and 100
}
LONG = 150
# Run once more by two processes, and compared with the same run by one.
BY_TWO = ["plain", "accumulated", "live-reference", "split", "lora", "lora-live"]


def mixed_groups() -> list[Group]:
    """Groups of 2 to 6 completions of 1 to 9 words behind prompts of 1 to 20, so that every layout has work to do."""
    draw = random.Random(0)

    def words(low: int, high: int) -> str:
        return " ".join(str(draw.randrange(10)) for _ in range(draw.randint(low, high)))

    made = []
    for number in range(22):
        size = draw.randint(2, 6)
        completions = [words(1, 9) for _ in range(size)]
        rewards = [2.0, *(round(draw.uniform(0, 1.5), 3) for _ in completions[1:])]
        prompt = [{"role": "user", "content": words(1, 20)}]
        made.append(Group(id=f"q{number}", domain="math", prompt=prompt, completions=completions, rewards=rewards))
    return made


def double_student(like, path):
    """A random StableLM with the words of `like`.

    A Llama will not do: its norms compute in float32 whatever its weights are, so that a rounding of 1e-16, which
    any other order of sums brings, now and then comes out of them as one of 1e-8.
    """
    import torch
    from transformers import AutoTokenizer, StableLmConfig, StableLmForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(like)
    config = StableLmConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    StableLmForCausalLM(config).double().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def world(directory, students) -> None:
    """Write the scale, its groups and its two students."""
    raw = yaml.safe_load((CONFIG / "tiny.yaml").read_text())
    raw["scale"] = SCALE
    for dtype, path in students.items():
        raw["models"][dtype] = {"display": dtype, "reference": f"dir:{path}", "dtype": dtype}
    raw["trainsets"]["mixed"] = {
        "display": "mixed", "select": "import", "domain": "math", "size": 22, "paths": ["groups.jsonl"],
    }  # fmt: skip
    raw["methods"] |= {name: PLAIN | changes for name, (changes, _) in VARIANTS.items()}
    (directory / "invariance.yaml").write_text(yaml.safe_dump(raw))
    write_records(directory / "results" / SCALE / "groups" / "mixed.jsonl", mixed_groups())
    for process in [start(directory, ["model", "--name", dtype]) for dtype in DTYPES]:
        finish(process)


def start(directory, arguments, launcher=()) -> subprocess.Popen:
    command = [sys.executable, *launcher, "-m", "gdpo.cli", *arguments, "--scale", "invariance.yaml"]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def training(dtype, methods) -> list[str]:
    return ["train", "--student", dtype, "--trainset", "mixed", "--method", *methods, "--seeds", "0"]


TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def kill_after_checkpoint(directory, process) -> dict:
    """Kill `process` once it has a whole checkpoint; returns the state from which it will go on."""
    states = f"results/{SCALE}/work/train/*/checkpoints/checkpoint-*/trainer_state.json"
    while process.poll() is None:
        if list(directory.glob(states)):
            for worker in [*psutil.Process(process.pid).children(recursive=True), process]:
                worker.kill()
            process.communicate()
            return max(
                (json.loads(path.read_text()) for path in directory.glob(states)), key=lambda s: s["global_step"]
            )
        time.sleep(0.02)
    raise AssertionError(process.communicate()[0])


@pytest.fixture(scope="module")
def students(student, tmp_path_factory):
    return {"float32": student, "float64": double_student(student, tmp_path_factory.mktemp("double"))}


@pytest.fixture(scope="module")
def runs(students, tmp_path_factory):
    """Directories of runs: all variants by one process, some by two, and the long run killed and called again.

    In float64 the killed run is one of two processes.
    """
    one = tmp_path_factory.mktemp("one")
    world(one, students)
    two, *killed = (shutil.copytree(one, one.with_name(f"{one.name}-{name}")) for name in ("two", *DTYPES))
    for process in [start(one, training(dtype, VARIANTS)) for dtype in DTYPES]:
        finish(process)
    killed = dict(zip(DTYPES, killed, strict=True))
    by = {"float32": (), "float64": TWO}
    begun = {dtype: start(where, training(dtype, ["long"]), by[dtype]) for dtype, where in killed.items()}
    with ThreadPoolExecutor() as pool:
        cut = dict(zip(DTYPES, pool.map(kill_after_checkpoint, killed.values(), begun.values()), strict=True))
    for dtype, process in begun.items():
        assert process.returncode == -signal.SIGKILL and not trained(killed[dtype], dtype, "long").exists()
    for process in [start(where, training(dtype, ["long"]), by[dtype]) for dtype, where in killed.items()]:
        finish(process)
    for dtype in DTYPES:
        output = finish(start(two, training(dtype, BY_TWO), TWO))
        assert output.count("train float") == len(BY_TWO), output  # one process speaks
    return {"one": dict.fromkeys(DTYPES, one), "two": dict.fromkeys(DTYPES, two), "killed": killed}, cut


def trained(directory, dtype, name):
    return directory / "results" / SCALE / "runs" / dtype / "mixed" / name / "0"


def weights(path):
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path / "model.safetensors")
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


COMPARED = {
    **{name: (("one", name), ("one", other)) for name, (_, other) in VARIANTS.items() if other},
    "resumed": (("killed", "long"), ("one", "long")),
    **{f"two-processes {name}": (("two", name), ("one", name)) for name in BY_TWO},
}


@pytest.fixture(scope="module")
def table(runs, students):
    """Variant and dtype -> distances, printed and written as a table."""
    directories, _ = runs
    begun = {dtype: weights(path) for dtype, path in students.items()}
    rows = {}
    for name, pair in COMPARED.items():
        for dtype in DTYPES:
            mine, other = (weights(trained(directories[where][dtype], dtype, method)) for where, method in pair)
            off = (mine - other).abs()
            rows[name, dtype] = {
                "variant": name,
                "equals": " ".join(pair[1]),
                "dtype": dtype,
                "relative_l2": float(off.norm() / other.norm()),
                "max": float(off.max()),
                "mean": float(off.mean()),
                "moved_l2": float((other - begun[dtype]).norm() / begun[dtype].norm()),
            }
    with (directories["one"]["float32"] / "invariance.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows["resumed", "float64"]))
        writer.writeheader()
        writer.writerows(rows.values())
    print(f"\n{'variant':30} {'dtype':8} {'rel. L2':>9} {'max':>9} {'mean':>9} {'moved':>9}")
    for row in rows.values():
        numbers = " ".join(f"{row[key]:9.1e}" for key in ("relative_l2", "max", "mean", "moved_l2"))
        print(f"{row['variant']:30} {row['dtype']:8} {numbers}")
    return rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", COMPARED)
def test_equal_but_for_rounding(name, dtype, table):
    row = table[name, dtype]
    assert row["moved_l2"] > 1e-2  # far more than the bounds, so that a wrong gradient could not hide
    assert row["relative_l2"] <= RELATIVE_L2
    if dtype == "float64":
        assert row["max"] <= ELEMENTWISE


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_resumed_run_is_the_whole_one(dtype, runs):
    """It went on from its checkpoint, whose timings its log repeats; by one process, to the very same weights."""
    directories, cut = runs
    path = trained(directories["killed"][dtype], dtype, "long")
    log = json.loads((path / "train.json").read_text())["log"]
    step = cut[dtype]["global_step"]
    assert 50 <= step < len(log) == LONG and log[:step] == cut[dtype]["log_history"][:step]
    if dtype == "float32":
        other = trained(directories["one"][dtype], dtype, "long")
        assert (path / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_the_first_process_writes(runs):
    """Two processes leave what one leaves: the model, its log and its provenance, and no work."""
    directories, _ = runs
    for name in BY_TWO:
        one, two = (trained(directories[where]["float32"], "float32", name) for where in ("one", "two"))
        assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
        counts = [json.loads((path / "train.json").read_text()) for path in (one, two)]
        for key in ("steps", "groups", "skipped_groups"):
            assert counts[0][key] == counts[1][key]
        assert [count["processes"] for count in counts] == [1, 2]
    assert not list(directories["two"]["float32"].glob(f"results/{SCALE}/work/train/*"))


def test_the_reference_is_scored_once(runs):
    """All runs of one student and one set share a reference: a full one, and one below an adapter, a dtype."""
    directories, _ = runs
    for where in ("one", "two"):
        cache = directories[where]["float32"] / "results" / SCALE / "work" / "reference"
        assert len(list(cache.iterdir())) == 2 * len(DTYPES)

"""Two processes train what one trains: the same losses step by step and the same weights, whole or sharded (FSDP2).

Nine items in batches of four for two epochs: in several processes an epoch's last batch is filled up by blanks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors.torch import load_file

from gdpo.config.models import Method
from gdpo.core.records import write_records
from gdpo.trainer.distributed import recompute_plan
from tests.students.test_students import method
from tests.workflow.test_invariance import double_student, mixed_groups

LORA = {"r": 2, "alpha": 4}
RUNS = {
    "sft": method("sft", max_length=64),
    "sft-lora": method("sft", max_length=64, lora=LORA),
    "dpo": method("dpo", max_length=64),
    "dpo-lora": method("dpo", max_length=64, lora=LORA),
    "gdpo": method("gdpo", max_length=64),
    "gdpo-lora": method("gdpo", max_length=64, lora=LORA),
    # Processes whose batches make different numbers of forward passes, some of them computed again.
    "gdpo-split": method("gdpo", max_length=64, forward={"max_forward_tokens": 32, "max_activation_tokens": 48}),
    "gdpo-watched": method("gdpo", max_length=64),
    "gdpo-live": method("gdpo", max_length=64, forward={"precompute_ref_log_probs": False}),
}
HALF = {  # in bfloat16
    "gdpo-half": method("gdpo", max_length=64),
    "dpo-lora-half": method("dpo", max_length=64, lora=LORA),
}
ONLINE = {"grpo": method("grpo", max_length=64, group_size=2)}
RESUMED = ["sft", "dpo", "gdpo", "gdpo-lora"]
# As workflow/config/accelerate/fsdp2.yaml has it: `accelerate launch` hands the file on in these variables.
SHARDED = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "FSDP_ACTIVATION_CHECKPOINTING": "false",
}  # fmt: skip
WORKER = "tests.students.processes_worker"
PATIENCE = 600  # seconds in which four processes start, train three steps, and end with one of them
STRATEGIES = {"ddp": {}, "fsdp2": SHARDED}
# Trainer adds up losses in float32, and so does TRL's head: a loss below 8 is rounded by up to 5e-7.
LOSS = 1e-6
# A weight's greatest distance: GDPOTrainer is float64 throughout.
WEIGHT = {"gdpo": 1e-10, "sft": 1e-7, "dpo": 1e-7}


def listed(directory, base, runs, checkpointing=False):
    """A file that lists `runs`, pairs of (name, killed), for the worker."""
    entries = []
    for name, killed in runs:
        chosen: Method = {**RUNS, **HALF, **ONLINE}[name.removesuffix("-resumed")]
        entry = {"out": str(directory / name), "work": str(directory / f"{name}-work"), "killed": killed}
        entry |= {"base": str(base), "groups": str(directory.parent / "groups.jsonl"), "checkpointing": checkpointing}
        entry["watched"] = name.endswith("-watched")
        entry |= {"dtype": "bfloat16" if name in HALF else "float64"}
        entries.append(entry | {"method": chosen.model_dump(mode="json")})
    path = directory / "runs.json"
    path.write_text(json.dumps(entries))
    return path


def call(arguments, fails=False, **environ):
    """Run a command on one thread, in its own group of processes; what it wrote to stderr."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **environ}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=settings)
    assert (done.returncode != 0) == fails, done.stderr[-6000:]
    return done.stderr


@pytest.fixture(scope="module")
def trained(student, tmp_path_factory):
    """By one process, and by two in each strategy: every run whole, and some killed at step 3 and called again."""
    top = tmp_path_factory.mktemp("processes")
    base = double_student(student, top / "base")
    write_records(top / "groups.jsonl", mixed_groups()[:9])
    pair = ["-m", "torch.distributed.run", "--standalone"]
    whole = [(name, False) for name in (*RUNS, *HALF, *ONLINE)]
    cut = [(f"{name}-resumed", killed) for name in RESUMED for killed in (True, False)]
    for where, runs in {"one": whole, **{strategy: whole + cut for strategy in STRATEGIES}}.items():
        (top / where).mkdir()
        path = listed(top / where, base, runs, checkpointing=where == "fsdp2")
        two = [*pair, "--nproc_per_node", "2"] if where != "one" else []
        call([*two, "-m", WORKER, str(path)], **STRATEGIES.get(where, {}))
    return top


def losses(path):
    return [entry["loss"] for entry in json.loads(path.with_suffix(".json").read_text())["log"]]


def distance(path, other):
    mine, others = (load_file(p / "model.safetensors") for p in (path, other))
    assert mine.keys() == others.keys()
    return max(float((mine[name] - others[name]).abs().max()) for name in mine)


@pytest.mark.long
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", [*RUNS, *(f"{name}-resumed" for name in RESUMED)])
def test_two_processes_train_what_one_trains(name, strategy, trained):
    one, two = trained / "one" / name.removesuffix("-resumed"), trained / strategy / name
    mine, others = losses(two), losses(one)
    off = max(abs(x - y) for x, y in zip(mine, others, strict=True))
    print(f"{name} {strategy}: losses differ by {off:.1e}, weights by {distance(two, one):.1e}")
    assert len(mine) == 6 and len({round(loss, 4) for loss in others}) > 3
    assert off <= LOSS
    assert distance(two, one) <= WEIGHT[name.split("-")[0]]
    assert distance(two, trained / "base") > 1e-4
    told = json.loads(two.with_suffix(".json").read_text())
    assert (told["processes"], told["first_step"]) == (2, 2 if name.endswith("-resumed") else 0)
    assert bool(told["shares"]) == (strategy == "fsdp2")
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    assert not two.with_name(f"{name}-work").exists()


@pytest.mark.long
def test_four_processes_end_with_one_and_resume(student, tmp_path):
    """The third of four is killed at step 3: all end, and the same call trains from the checkpoint what one trains."""
    base = double_student(student, tmp_path / "base")
    write_records(tmp_path / "groups.jsonl", mixed_groups()[:9])
    four = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "4", "-m", WORKER]
    for where in ("one", "four"):
        (tmp_path / where).mkdir()
        path = listed(tmp_path / where, base, [("gdpo-split", False)], checkpointing=where == "four")
        if where == "one":
            call(["-m", WORKER, str(path)])
    whole = json.loads(path.read_text())
    path.write_text(json.dumps([{**whole[0], "killed": True, "killed_rank": 2}]))
    began = time.monotonic()
    ended = call([*four, str(path)], fails=True, **SHARDED)
    assert "Signal 9 (SIGKILL)" in ended and time.monotonic() - began < PATIENCE
    assert not [line for line in running() if str(path) in line]
    path.write_text(json.dumps(whole))
    call([*four, str(path)], **SHARDED)
    trained = tmp_path / "four" / "gdpo-split"
    told = json.loads(trained.with_suffix(".json").read_text())
    assert (told["processes"], told["first_step"], bool(told["shares"])) == (4, 2, True)
    assert losses(trained) == pytest.approx(losses(tmp_path / "one" / "gdpo-split"), abs=LOSS)
    assert distance(trained, tmp_path / "one" / "gdpo-split") <= WEIGHT["gdpo"]


def running():
    """The command lines of all processes."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                lines.append((entry / "cmdline").read_bytes().decode(errors="replace"))
    return lines


@pytest.mark.long
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_log_ratios_start_at_zero_in_bfloat16(strategy, trained):
    """Sharded weights compute as the reference did before they were dealt out; before the first step both are one."""
    log = json.loads((trained / strategy / "gdpo-half.json").read_text())["log"]
    assert (log[0]["loss"], log[0]["kl"]) == (-0.5, 0.0) and log[-1]["kl"] > 1e-3
    for mine, other in zip(
        losses(trained / strategy / "gdpo-half"), losses(trained / "one" / "gdpo-half"), strict=True
    ):
        assert mine == pytest.approx(other, abs=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_dpo_adapter_margins_start_near_zero_in_bfloat16(strategy, trained):
    """Before the first step TRL's two differ by how their batches are padded, and sharded by nothing more."""
    logs = [json.loads((trained / where / "dpo-lora-half.json").read_text())["log"] for where in ("one", strategy)]
    assert logs[1][0]["rewards/margins"] == pytest.approx(logs[0][0]["rewards/margins"], abs=1e-6)
    assert abs(logs[0][0]["rewards/margins"]) < 2e-5


@pytest.mark.long
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_validation_reward_is_the_same_in_several_processes(strategy, trained):
    """Sharded weights answer in the middle of training, and train on."""
    one, two = (json.loads((trained / w / "gdpo-watched.json").read_text())["watch"] for w in ("one", strategy))
    seen = [(entry["step"], entry["reward"]) for entry in one]
    assert seen == [(entry["step"], entry["reward"]) for entry in two]
    assert [step for step, _ in seen] == [0, 2, 4, 6] and len({reward for _, reward in seen}) > 1


@pytest.mark.long
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rollouts_are_shared(strategy, trained):
    """Eight of nine prompts in two full batches an epoch, two rollouts each; every process draws its own at random."""
    one, two = (json.loads((trained / where / "grpo.json").read_text()) for where in ("one", strategy))
    for key in ("steps", "completions", "groups"):
        assert one[key] == two[key]
    assert (one["steps"], one["completions"]) == (4, 32)
    assert distance(trained / strategy / "grpo", trained / "base") > 1e-6


def test_recompute_plan_is_the_same_in_every_process():
    """Sizes 3, 3, 3 here and 5, 1 there, limit 5: both make three, and compute again from the second on."""
    others = [[3, 3, 3], [5, 1]]
    assert recompute_plan([3, 3, 3], 5, lambda mine: [mine]) == [False, True, True]
    assert recompute_plan([5, 1], 5, lambda mine: [mine]) == [False, True]
    assert recompute_plan([5], 5, lambda mine: [[2, 2, 2], mine]) == [False, False, True]
    assert (
        recompute_plan([5, 1], 5, lambda mine: others)
        == recompute_plan([3, 3, 3], 5, lambda mine: others)
        == [False, True, True]
    )
    assert recompute_plan([9], float("inf"), lambda mine: [mine]) == [False]

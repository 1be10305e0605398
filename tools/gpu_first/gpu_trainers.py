"""The four trainers on the device beside the CPU: losses, kill and resume, one-process collectives, the fsdp2 file.

The reference is the same training on the CPU in float64, so that a rehearsal on a CPU compares something, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gdpo.config.fields import Dtype
from gdpo.config.loader import load_scale
from gdpo.config.models import Method
from gdpo.core.errors import UserError
from gdpo.core.files import read_json, replacing, write_json
from gdpo.core.records import Group, Question, chat
from gdpo.tiny.world import pool_questions
from tools.gpu_first.gpu_plan import Plan

TRAINERS = ("sft", "dpo", "grpo", "gdpo")
Row = dict[str, Any]
KEPT = "trained.json"


def made(base_scale: str, count: int, size: int) -> list[Group]:
    """`count` groups of the made-up world: each question's gold response and `size` - 1 of like ones, rewarded less.

    Nothing is sampled, so every machine has the same groups.
    """
    world = load_scale(base_scale).world
    assert world is not None  # of the scales that the files of sizes name
    every = [question for question in pool_questions(world) if question.solution]
    answers = {source: {q.solution for q in every if q.source == source} for source in {q.source for q in every}}
    questions = [question for question in every if len(answers[question.source]) >= size]  # refusals are all alike
    step = len(questions) // count
    return [_group(questions, place * step, size) for place in range(count)]


def _group(questions: list[Question], place: int, size: int) -> Group:
    asked = questions[place]
    others = dict.fromkeys(q.solution for q in questions if q.source == asked.source and q.solution != asked.solution)
    wrong = [text for text in others if text][: size - 1]
    rewards = [2.0, *(1.0 - rank / size for rank in range(len(wrong)))]
    return Group(
        id=asked.id,
        domain=asked.domain,
        prompt=chat(asked),
        completions=[asked.solution or "", *wrong],
        rewards=rewards,
    )


def methods(given: Row) -> dict[str, Method]:
    """The scale's four methods with the part's `batch_size`, `epochs` and, for rollouts, `new_tokens`."""
    scale = load_scale(given["scale"])
    changes = {"batch_size": given["batch_size"], "micro_batch_size": given["batch_size"], "epochs": given["epochs"]}
    found = {name: scale.methods[name].model_copy(update=changes) for name in TRAINERS}
    online = {"group_size": given["group_size"], "max_new_tokens": given["new_tokens"]}
    return found | {"grpo": found["grpo"].model_copy(update=online)}


@contextmanager
def drawn(replayed: list[list] | None) -> Iterator[list[list]]:
    """Sampling draws tokens from the CPU's random numbers on every device; yields what was drawn, as lists of tokens.

    What is `replayed` is drawn again in its place, so that other rounding meets the same rollouts.
    """
    import torch

    draw, record = torch.multinomial, []

    def multinomial(weights: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        if replayed:
            tokens = torch.tensor(replayed[len(record)])
        else:
            tokens = draw(weights.detach().double().cpu(), *arguments, **named)
        record.append(tokens.tolist())
        return tokens.to(weights.device)

    torch.multinomial = multinomial
    try:
        yield record
    finally:
        torch.multinomial = draw


def base(place: Path, given: Row) -> Path:
    """A Llama of random weights with the made-up world's tokenizer, drawn on the CPU, at `place`; made once.

    Random, since a model that has learnt the world gives one answer, and rollouts that are all alike teach nothing.
    """
    if not place.exists():
        import torch
        from transformers import LlamaForCausalLM

        from gdpo.config.models import Pretrain
        from gdpo.tiny import pretrain as tiny

        torch.manual_seed(0)
        tokenizer = tiny.build_tokenizer()
        network = LlamaForCausalLM(tiny._llama(Pretrain(**given["shape"]), tokenizer))
        with replacing(place) as temporary:
            network.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
    return place


def trained(
    name: str, dtype: Dtype, place: Path, given: Row, kill_at: int | None = None, replayed: list[list] | None = None
) -> Row:
    """Train by `name`: what `train_run` returns, tokens `drawn`, the step it `began_at`, its `shares` of weights.

    Everything is kept at `place`; with `kill_at` this process ends by SIGKILL as that step begins.
    """
    import torch
    from torch.distributed.tensor import DTensor
    from transformers import TrainerCallback

    from gdpo.students import common, dpo, gdpo, grpo, sft, train_run

    if given.get("threads"):
        torch.set_num_threads(given["threads"])
    common.CHECKPOINT_STEPS = given["checkpoint_steps"]
    fit, seen = common.fit, {"began_at": 0, "shares": 0}

    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **_):
            shares = sum(isinstance(weight, DTensor) for weight in model.parameters())
            seen.update(began_at=state.global_step, shares=shares)

        def on_step_begin(self, args, state, control, **_):
            if kill_at is not None and state.global_step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    for module in (dpo, gdpo, grpo, sft):
        module.fit = lambda trainer, of: (trainer.add_callback(Look()), fit(trainer, of))

    def reward(prompts: list, completions: list, **_: Any) -> list[float]:
        return [float(sum(map(ord, messages[-1]["content"])) % 10) for messages in completions]  # seldom two alike

    groups = made(given["scale"], given["groups"], given["group_size"])
    with drawn(replayed) as record:
        metrics = train_run(
            base=base(place.parents[1] / "base", given), method=methods(given)[name], groups=groups,
            out=place / "model", work=place / "work", seed=0, dtype=dtype, reward_fn=reward,
        )  # fmt: skip
    return metrics | seen | {"drawn": record, "log": _curve(metrics["log"])}


def _curve(log: list[Row]) -> list[Row]:
    return [{"loss": step["loss"], "grad_norm": step["grad_norm"]} for step in log if "loss" in step]


def room(plan: Plan, project: Path) -> Path:
    return project / plan.results / "work"


def kept(place: Path, train: Any) -> Row:
    """What `train()` returns, from `place` where an earlier attempt has finished it."""
    path = place / KEPT
    if not path.exists():
        write_json(path, train())
    return read_json(path)


def reference(plan: Plan, project: Path, **given: Any) -> list[Row]:
    """Train by each trainer on the CPU in float64, for the parts that compare; a row for each."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    rows = []
    for name in TRAINERS:
        place = room(plan, project) / "float64" / name
        told = kept(place, partial(trained, name, "float64", place, given))
        rows.append({"trainer": name, "dtype": "float64", "device": told["device"], **_ends(told)})
    return rows


def _ends(told: Row) -> Row:
    return {"steps": told["steps"], "train_loss": told["train_loss"], "seconds": told["seconds"]}


def parity(plan: Plan, project: Path, dtype: Dtype, bounds: dict[str, float], **given: Any) -> list[Row]:
    """Train by each trainer on the device in `dtype` and compare each step with the CPU's float64.

    A row for each: the greatest differences over the compared steps, and `within`, whether both are within `bounds`
    (`loss`: absolute; `grad_norm`: relative). Rollouts of grpo are those of the reference.
    """
    rows = []
    for name in TRAINERS:
        place, exact = room(plan, project) / dtype / name, read_json(room(plan, project) / "float64" / name / KEPT)
        told = kept(place, partial(trained, name, dtype, place, given, replayed=exact["drawn"]))
        rows.append(compared(name, dtype, told, exact, bounds))
    return rows


def compared(name: str, dtype: str, told: Row, exact: Row, bounds: dict[str, float]) -> Row:
    """How far a training is from the exact one, as `parity` has it. Raises UserError where nothing was learnt there."""
    pairs = list(zip(told["log"], exact["log"], strict=True))
    if not all(b["grad_norm"] > 0 for _, b in pairs):
        raise UserError(f"{name}: found a step without a gradient, expected all to have one, or nothing is compared")
    loss = max(abs(a["loss"] - b["loss"]) for a, b in pairs)
    norm = max(abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in pairs)
    within = loss <= bounds["loss"] and norm <= bounds["grad_norm"]
    return {
        "trainer": name, "dtype": dtype, "device": told["device"], **_ends(told),
        "loss_difference": loss, "loss_bound": bounds["loss"], "grad_norm_difference": norm,
        "grad_norm_bound": bounds["grad_norm"], "within": within,
    }  # fmt: skip


def distance(path: Path, other: Path) -> float:
    """The greatest distance of one weight between two checkpoints."""
    from safetensors.torch import load_file

    one, two = load_file(path / "model.safetensors"), load_file(other / "model.safetensors")
    if one.keys() != two.keys():
        raise UserError(f"{path}: found other weights than {other} has, expected the same names")
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


def resume(plan: Plan, project: Path, kill_at: int, bounds: dict[str, float], **given: Any) -> list[Row]:
    """Kill each trainer's float32 run as step `kill_at` begins, resume it, and compare it with the one left alone."""
    work = room(plan, project) / "resumed"
    script = "import json, sys; from pathlib import Path; from tools.gpu_first import gpu_trainers as g; "
    script += "n, p, given, at = json.loads(sys.argv[1]); g.trained(n, 'float32', Path(p), given, at)"
    killed = {}
    for name in TRAINERS:  # side by side: most of their time are imports
        asked = json.dumps([name, str(work / name), given, kill_at])
        if not (work / name / KEPT).exists():
            killed[name] = subprocess.Popen([sys.executable, "-c", script, asked], cwd=project)
    ended = {name: process.wait() for name, process in killed.items()}
    rows = []
    for name in TRAINERS:
        place = work / name
        told = kept(place, partial(trained, name, "float32", place, given))
        whole = room(plan, project) / "float32" / name
        apart = distance(place / "model", whole / "model")
        rows.append(
            {
                "trainer": name, "dtype": "float32", "device": told["device"], **_ends(told),
                "killed": ended.get(name, -signal.SIGKILL) == -signal.SIGKILL, "resumed_at": told["began_at"],
                "weights_difference": apart, "weights_bound": bounds["weights"],
                "within": told["began_at"] > 0 and apart <= bounds["weights"],
            }
        )  # fmt: skip
    return rows


def collectives(
    plan: Plan, project: Path, backend: str, elements: int, bounds: dict[str, float], **given: Any
) -> list[Row]:
    """Under torchrun with one process: collectives of `backend`, then each trainer, beside its run without it."""
    import torch
    from accelerate import PartialState

    PartialState(cpu=plan.device == "cpu")
    found = torch.distributed.get_backend()
    if found != backend:
        raise UserError(f"backend: found {found}, expected {backend}")
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        given_in = torch.randn(elements, device=plan.device).to(dtype)
        summed, gathered = given_in.clone(), torch.empty_like(given_in)
        torch.distributed.all_reduce(summed)
        torch.distributed.all_gather_into_tensor(gathered, given_in)
        torch.distributed.barrier()
        same = bool(torch.equal(summed, given_in) and torch.equal(gathered, given_in))
        rows.append({"trainer": "none", "dtype": str(dtype).removeprefix("torch."), "backend": found, "within": same})
    return rows + _launched(plan, project, "nccl", {"backend": found}, bounds, given)


def sharded(plan: Plan, project: Path, bounds: dict[str, float], **given: Any) -> list[Row]:
    """Under accelerate's launcher with workflow/config/accelerate/fsdp2.yaml: each trainer, beside its run without."""
    if plan.device == "cpu":
        force_sharding()
    return _launched(plan, project, "fsdp2", {"strategy": "fsdp2"}, bounds, given)


def _launched(plan: Plan, project: Path, kind: str, told: Row, bounds: dict[str, float], given: Row) -> list[Row]:
    rows = []
    for name in TRAINERS:
        place = room(plan, project) / kind / name
        alone = read_json(room(plan, project) / "float32" / name / KEPT)
        found = kept(place, partial(trained, name, "float32", place, given, replayed=alone["drawn"]))
        row = told | compared(name, "float32", found, alone, bounds) | {"shares": found["shares"]}
        if kind == "fsdp2" and not found["shares"]:
            raise UserError(f"{name}: found no sharded weight, expected fsdp2 to shard them")
        rows.append(row)
    return rows


def force_sharding() -> None:
    """Tell accelerate that CPU processes are of the kind that it shards, since it turns FSDP on for GPUs alone.

    From accelerate's own preparation of the model on, the code is what runs on GPUs.
    """
    from accelerate import state
    from accelerate.utils import DistributedType

    begin = state.AcceleratorState.__init__

    def sharding(self, *args, fsdp_plugin=None, **given):
        begin(self, *args, fsdp_plugin=fsdp_plugin, **given)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    state.AcceleratorState.__init__ = sharding

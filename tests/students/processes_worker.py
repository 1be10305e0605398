"""Trains, in each of several processes, the runs that a JSON file lists; started by tests/students/test_processes.py.

With ACCELERATE_USE_FSDP set the weights are sharded on CPUs too: accelerate turns FSDP on for GPUs alone, so it is told
here that the processes are of that kind. All that follows, from accelerate's own preparation of the model on, is the
code that runs on GPUs, over gloo.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from gdpo.config.models import Method
from gdpo.core import process_group
from gdpo.core.records import Group, read_records
from tools.gpu_first.gpu_trainers import force_sharding


def rewarded_by_length(texts: list[str], lengths: list[int], _: int) -> list[float]:
    return [float(len(text) + length) for text, length in zip(texts, lengths, strict=True)]


def main(listed: Path) -> None:
    import torch
    from torch.distributed.tensor import DTensor
    from transformers import TrainerCallback

    from gdpo.students import common, dpo, gdpo, grpo, sft, train_run
    from gdpo.students.watch import ValidationReward
    from tests.students.test_students import reward_even

    torch.set_num_threads(1)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        force_sharding()
    common.CHECKPOINT_STEPS = 2
    fit, arguments = common.fit, common.arguments
    seen: dict[str, int] = {}

    class Kill(TrainerCallback):
        rank = None  # of the process that dies by SIGKILL, and takes the others with it; None: each raises

        def on_step_begin(self, args, state, control, **_):
            if state.global_step != 3:
                return
            if self.rank is None:
                raise InterruptedError
            if args.process_index == self.rank:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_train_begin(self, args, state, control, model=None, **_):
            seen["first_step"] = state.global_step
            seen["shares"] = sum(isinstance(parameter, DTensor) for parameter in model.parameters())

    class Live(Kill):
        def on_step_begin(self, *_, **__):
            pass

    for run in json.loads(listed.read_text()):
        Kill.rank = run.get("killed_rank")
        for module in (dpo, gdpo, grpo, sft):
            module.fit = lambda trainer, of, killed=run["killed"]: (
                trainer.add_callback(Kill() if killed else Live()),
                fit(trainer, of),
            )
            module.arguments = lambda *given, again=run["checkpointing"], **named: (
                arguments(*given, **named) | {"gradient_checkpointing": again}
            )
        out = Path(run["out"])
        groups = read_records(Path(run["groups"]), Group)
        watch = None
        if run["watched"]:
            tokenizer = common.padding_tokenizer(Path(run["base"]))
            prompts = [
                tokenizer.apply_chat_template(g.prompt, tokenize=False, add_generation_prompt=True) for g in groups
            ]
            watch = ValidationReward(
                tokenizer, prompts[:4], rewarded_by_length, every=2, max_new_tokens=8, batch_size=2
            )
        try:
            metrics = train_run(
                base=Path(run["base"]), method=Method(**run["method"]), groups=groups, out=out, seed=0,
                work=Path(run["work"]), dtype=run["dtype"], reward_fn=reward_even, watch=watch,
            )  # fmt: skip
        except InterruptedError:
            continue
        if process_group.is_main_process():
            out.with_suffix(".json").write_text(json.dumps(metrics | seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

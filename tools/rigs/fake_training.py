"""One micro-batch of SFT, DPO, GDPO or GRPO under FSDP2 on fake tensors, and what a process holds at most meanwhile.

No weight is made and no process started: tensors have shapes alone (FakeTensorMode), collectives answer at once (a
fake process group of torch), and `FSDPMemTracker` adds up what one of `ranks` processes would hold. The idea is that of
torchtitan's script of estimates. The model is transformers' own, dealt out by accelerate as workflow/config/accelerate
has it; GDPO's passes are GDPOTrainer's, and the head of SFT, DPO and GRPO is TRL's.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from gdpo.config.models import Method
from gdpo.models import shapes
from gdpo.models.shapes import Shape

GROUP = 10
PROMPT = 16  # ours: tokens of the prompt in a group whose completions fill the rest of `max_length`
PASSES = 2  # of GDPO: each is a forward and a backward pass by itself, so that further ones hold no more
# workflow/config/accelerate/fsdp2.yaml, in the variables by which `accelerate launch` hands it on.
SHARDED = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "FSDP_ACTIVATION_CHECKPOINTING": "false",
}  # fmt: skip


def build(shape: Shape) -> nn.Module:
    """transformers' model of this shape, in float32, with gradient checkpointing as the trainers turn it on."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

    kind = Qwen3Config if shape.head_norms else Qwen2Config if shape.biases else LlamaConfig
    config = kind(
        hidden_size=shape.hidden, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, head_dim=shape.head, intermediate_size=shape.intermediate,
        vocab_size=shape.vocabulary, tie_word_embeddings=shape.tied, max_position_embeddings=32768, use_cache=False,
    )  # fmt: skip
    model: nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    return model


@contextmanager
def fake_processes(ranks: int) -> Iterator[None]:
    """Within the block this process is the first of `ranks`, whose collectives do nothing."""
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from torch.testing._internal.distributed.fake_pg import FakeStore

    told = {**SHARDED, "RANK": "0", "WORLD_SIZE": str(ranks), "LOCAL_RANK": "0", "ACCELERATE_USE_CPU": "true",
            "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}  # fmt: skip
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Within the block what is written otherwise for CPUs allocates what it does on a GPU.

    Autograd of fake CUDA tensors needs a torch that is built for CUDA, so the tensors are a CPU's. There TRL folds
    tiles by torch instead of Triton, whose kernels work in place, and sums of products copy their factors to float32.
    """
    from trl.kernels import chunked_logprob

    from gdpo.trainer import distributed, logprobs

    nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    replaced = [(logprobs, "_accumulate"), (chunked_logprob, "_addmm_fp32")]
    replaced += [(chunked_logprob, "_forward_tile"), (chunked_logprob, "_backward_tile")]
    replaced += [(distributed, "gather_object")]  # by which every process learns how many passes the others have
    before = [getattr(module, name) for module, name in replaced]
    for module, name in replaced:
        setattr(module, name, nothing if name != "gather_object" else list)
    try:
        yield
    finally:
        for (module, name), function in zip(replaced, before, strict=True):
            setattr(module, name, function)


@contextmanager
def one_mesh(ranks: int) -> Iterator[None]:
    """Within the block FSDP2's mesh of processes is this one, made of real numbers, which fake tensors do not hold."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp._fully_shard import _fully_shard

    mesh, before = init_device_mesh("cpu", (ranks,)), _fully_shard._init_default_mesh
    _fully_shard._init_default_mesh = lambda *_, **__: mesh
    try:
        yield
    finally:
        _fully_shard._init_default_mesh = before


def prepared(model: nn.Module, gathered_in: torch.dtype | None) -> tuple[Any, nn.Module]:
    """The accelerator as a trainer makes it, and the model dealt out as accelerate does for it."""
    from accelerate import Accelerator
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    from gdpo.trainer.distributed import Parallel

    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    trainer = SimpleNamespace(is_fsdp_enabled=True, accelerator=accelerator, gathered_in=gathered_in)
    Parallel.accelerator_created(trainer)
    accelerator.state.fsdp_plugin.set_auto_wrap_policy(model)
    return accelerator, fsdp2_prepare_model(accelerator, model)


def whole_sequences(vocabulary: int, count: int, length: int) -> list[dict[str, Any]]:
    """A row of GroupCollator: a group of `count` different completions that fill `length` with their prompt."""
    prompt = list(range(PROMPT))
    sequences = [[(place + number) % vocabulary for place in range(length - PROMPT)] for number in range(count)]
    rewards = [2.0 - number / count for number in range(count)]
    return [{"prompt_ids": prompt, "sequences": sequences, "index": list(range(count)), "rewards": rewards}]


def gdpo_batch(model: nn.Module, shape: Shape, method: Method, count: int) -> dict[str, Any]:
    """A batch of one group as GDPOTrainer's collator makes it, of real tensors."""
    from gdpo.trainer.packing import GroupCollator, Packing, attention_tokens

    body = shape.layers * shape.layer + shape.hidden
    config, forward = model.config, method.forward
    most = (forward and forward.max_forward_tokens) or shapes.FORWARD_TOKENS
    packing = Packing(0, most, attention_tokens=attention_tokens(config, body))
    batch: dict[str, Any] = GroupCollator(packing)(whole_sequences(config.vocab_size, count, method.max_length))
    return batch


def gdpo_loss_of(model: nn.Module, accelerator: Any, method: Method, batch: dict[str, Any]) -> Tensor:
    """The sum of what GDPOTrainer's passes give, which the loss is made of: its checks ask tensors for their values."""
    from gdpo.trainer.distributed import backward_by_pass, run_in_wrapped_forward
    from gdpo.trainer.gdpo_trainer import GDPOTrainer

    forward = method.forward
    args = SimpleNamespace(
        max_activation_tokens=forward and forward.max_activation_tokens,
        max_logits=(forward and forward.max_logits) or shapes.LOGITS,
    )
    trainer = SimpleNamespace(args=args, accelerator=accelerator)
    # No tensor of bools as an index, by which a fake one has no size.
    every = {**batch, "index": batch["index"].flatten(), "mask": slice(None)}

    def score(only: int | None) -> tuple[Tensor, Tensor]:
        run = lambda: GDPOTrainer._routed_log_probs(trainer, model, every, None, only)  # noqa: E731
        return run_in_wrapped_forward(model, model, run, batch["rewards"])

    def loss_of(log_probs: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return log_probs.sum(), log_probs

    if (passes := len(batch["forwards"])) == 1:
        return loss_of(*score(None))[0]
    return backward_by_pass(passes, score, loss_of, lambda part: part.backward())[0]


def trl_log_probs(model: nn.Module, accelerator: Any, name: str, ids: Tensor) -> Tensor:
    """Log-probabilities by TRL's head as its trainers call it on sequences without padding; GRPO's under autocast."""
    labels = ids.clone()
    if name != "grpo":
        scored: Tensor = model(input_ids=ids, labels=labels, fused_lm_head=True, use_cache=False).log_probs
        return scored
    with accelerator.autocast():
        scored = model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs
    return scored


def trl_loss_of(
    model: nn.Module, accelerator: Any, name: str, method: Method, ids: Tensor, reference: nn.Module | None
) -> Tensor:
    """The losses of SFTTrainer, DPOTrainer and GRPOTrainer (`loss_type="grpo"`), without what they log."""
    known = None
    if reference is not None:
        with torch.no_grad():
            known = trl_log_probs(reference, accelerator, name, ids)
    log_probs = trl_log_probs(model, accelerator, name, ids)
    if name == "sft":
        return -log_probs.sum() / ids.numel()
    if name == "dpo":
        chosen, rejected = log_probs.sum(1).chunk(2)
        return -nn.functional.logsigmoid((method.beta or 0) * (chosen - rejected)).mean()
    ratio = torch.exp(log_probs - log_probs.detach())
    assert known is not None
    drift = torch.exp(known - log_probs) - (known - log_probs) - 1
    return (-torch.min(ratio, ratio.clamp(0.8, 1.2)) + (method.beta or 0) * drift).mean()


def tracker_of(model: nn.Module, optimizer: Any) -> Any:
    """torch's tracker, taught that accelerate deals out the last norm and the head together.

    It hooks every sharded module by itself, which breaks the hooks that a pair has in common. Of the pair the shares
    and all allocations are counted; what is missing is their place in the report by modules.
    """
    from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
    from torch.distributed.fsdp import FSDPModule

    class Tracker(FSDPMemTracker):
        def _instrument_fsdp_module(self) -> None:
            states = [m._get_fsdp_state() for m in self._root_mod.modules() if isinstance(m, FSDPModule)]
            pairs = {id(state): state for state in states if len(state._modules) > 1}
            kept = {key: state._fsdp_param_groups for key, state in pairs.items()}
            for state in pairs.values():
                state._fsdp_param_groups = []
            super()._instrument_fsdp_module()
            for key, state in pairs.items():
                state._fsdp_param_groups = kept[key]
                for part in kept[key]:
                    self._instrument_fsdp_sharded_params_grads(part)

        def _update_peak_stats(self, peak_state: Any) -> None:
            super()._update_peak_stats(peak_state)
            inside = any(".layers." in name for name in self._mod_tracker.parents)
            if not self._mod_tracker.is_bw:
                stage, self.begun = "forward", False
            else:
                self.begun = self.begun or inside
                stage = "layers" if inside else "embedding" if self.begun else "head"
            held = sum(int(snapshot["Total"]) for snapshot in self._curr_mem_snap.values())
            self.stages[stage] = max(self.stages.get(stage, 0), held)

    tracker = Tracker(model, optimizer)
    tracker.stages, tracker.begun = {}, False
    return tracker


def stepped(model: nn.Module) -> Any:
    """AdamW with its moments, and the gradients of an earlier micro-batch on its weights.

    A step itself is not tracked: on a GPU it works in place, while fake tensors compute it by parts.
    """
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    return optimizer


HEADS = {"sft": ("log_probs", "entropy", "is_top1"), "dpo": ("log_probs",), "grpo": ("log_probs", "entropy")}
SEQUENCES = {"sft": 1, "dpo": 2, "grpo": GROUP}


def track(name: str, shape: Shape, ranks: int, method: Method, group: int = PASSES) -> dict[str, int]:
    """The most bytes that one of `ranks` holds in each stage of a micro-batch, by the name of the stage."""
    from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
    from torch.distributed._tools.fsdp2_mem_tracker import _FSDPRefType
    from trl.models.utils import prepare_fsdp
    from trl.trainer.utils import add_fused_lm_head

    with fake_processes(ranks), one_mesh(ranks), as_on_a_gpu(), FakeTensorMode(allow_non_fake_inputs=True) as fake:
        model = build(shape)
        reference = build(shape).requires_grad_(False) if name == "grpo" else None
        for each in (model, reference) if name in HEADS else ():
            if each is not None:
                add_fused_lm_head(each, outputs=HEADS[name])
        accelerator, model = prepared(model, None if name == "gdpo" else torch.bfloat16)
        if reference is not None:
            reference = prepare_fsdp(reference, accelerator)
        if name == "gdpo":
            with unset_fake_temporarily():
                real = gdpo_batch(model, shape, method, group)
            batch = fake_batch(fake, real)
        ids = torch.zeros(SEQUENCES.get(name, 1), method.max_length, dtype=torch.long)
        tracker = tracker_of(model, stepped(model))
        for weight in reference.parameters() if reference is not None else ():
            tracker._update_and_maybe_create_winfos(weight, _FSDPRefType.SHARDED_PARAM)
        with tracker:
            if name == "gdpo":
                gdpo_loss_of(model, accelerator, method, batch).backward()
            else:
                trl_loss_of(model, accelerator, name, method, ids, reference).backward()
    gc.collect()
    stages: dict[str, int] = tracker.stages
    return stages


def fake_batch(fake: Any, batch: Any) -> Any:
    """`batch` with its tensors as fake ones."""
    if isinstance(batch, Tensor):
        return fake.from_tensor(batch)
    if isinstance(batch, dict):
        return {key: fake_batch(fake, value) for key, value in batch.items()}
    return [fake_batch(fake, value) for value in batch] if isinstance(batch, list) else batch

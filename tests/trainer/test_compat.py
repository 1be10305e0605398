"""Each signature, attribute and call that gdpo/trainer/compat.py relies on is where the pinned release has it.

One that a release has moved fails with one sentence, which names the library, its version and what is missing.
"""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import accelerate
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch.utils.data import BatchSampler, DataLoader
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from trl import DPOConfig, DPOTrainer, GRPOTrainer, SFTTrainer

from gdpo.trainer import compat
from gdpo.trainer.samplers import FilledSampler, SeededShuffle

ROOMS = ("trainer", "students")

# What takes which arguments, by name or, where a call here passes them so, in this order.
SIGNATURES = {
    "transformers.Trainer.create_accelerator_and_postprocess": (),
    "transformers.Trainer.get_train_dataloader": (),
    "transformers.Trainer._get_train_sampler": ("train_dataset",),
    "transformers.Trainer._get_num_items_in_batch": ("batch_samples", "device"),
    "transformers.Trainer._save_checkpoint": ("model", "trial"),
    "transformers.Trainer._load_from_checkpoint": ("resume_from_checkpoint", "model"),
    "transformers.Trainer._load_best_model": (),
    "transformers.Trainer._prepare_inputs": ("inputs",),
    "transformers.Trainer.compute_loss": ("model", "inputs", "return_outputs", "num_items_in_batch"),
    "transformers.Trainer.prediction_step": ("model", "inputs", "prediction_loss_only", "ignore_keys"),
    "transformers.Trainer.evaluate": ("eval_dataset",),
    "transformers.Trainer.log": ("logs", "start_time"),
    "transformers.conversion_mapping.get_checkpoint_conversion_mapping": ("model_type",),
    "accelerate.commands.launch.launch_command": ("args",),
    "accelerate.commands.launch.launch_command_parser": (),
    "trl.DPOTrainer._prepare_dataset": ("dataset",),
    "trl.DPOTrainer._precompute_ref_logps": ("dataset",),
    "trl.DPOTrainer.compute_loss": ("model", "inputs", "return_outputs", "num_items_in_batch"),
}
# Methods that gdpo overrides are of use only where the library itself calls them, as it does here.
CALLS = {
    "transformers.trainer": (
        "self.create_accelerator_and_postprocess()", "self._get_train_sampler", "self._get_num_items_in_batch(",
        "self._save_checkpoint(", "self._load_from_checkpoint(", "self._load_best_model()", "self.prediction_step(",
        "self.loss_is_scaled_for_ga", "self._train_batch_size", "self.state.best_model_checkpoint",
        "self._initial_global_step = self.state.global_step", "self._total_loss_scalar += tr_loss_scalar",
        "self._tr_loss += tr_loss_step", "num_steps_trained = self.state.global_step - self._initial_global_step",
        "self.state.stateful_callbacks[cb_name] = cb_state",
    ),
    "trl.trainer.dpo_trainer": (
        "self._prepare_dataset(", "self._precompute_ref_logps(", '["ref_chosen_logps"]', '["completion_mask"]',
        '["prompt_ids"]', '["chosen_ids"]', '["rejected_ids"]', 'self._metrics[mode]["rewards/margins"].append(',
    ),
    "trl.trainer.sft_trainer": ('.get("skip_prepare_dataset"',),
    "accelerate.data_loader": (
        'getattr(self.dataset, "total_dataset_length", len(self.dataset))', "self.batch_sampler.sampler.set_epoch(",
    ),
    "accelerate.utils.fsdp_utils": ("mixed_precision_policy",),
    "accelerate.utils.dataclasses": ("CPU_RAM_EFFICIENT_LOADING",),
    "accelerate.accelerator": ("ACCELERATE_USE_FSDP",),
    "accelerate.utils.constants": ('"pytorch_model_fsdp"',),
}  # fmt: skip


def check(holds: bool, name: str, moved: str) -> None:
    """Fail with the one sentence of a release that has moved `name`."""
    library = name.partition(".")[0]
    if not holds:
        sentence = f"{library} {version(library)}: {name.partition('.')[2]} {moved}; see gdpo/trainer/compat.py"
        pytest.fail(sentence, pytrace=False)


def resolve(name: str) -> object:
    """The object of a dotted name; None where there is none."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found
    return None


def check_signature(name: str, function: object, parameters: tuple[str, ...]) -> None:
    check(callable(function), name, "is gone")
    taken = list(inspect.signature(function).parameters)
    for parameter in parameters:
        check(parameter in taken, name, f"no longer takes {parameter}")
    own = [parameter for parameter in taken if parameter != "self"]
    check(tuple(own[: len(parameters)]) == parameters, name, f"no longer takes {', '.join(parameters)} in this order")


@pytest.mark.parametrize("name", SIGNATURES)
def test_function_takes_the_arguments_that_it_is_given(name):
    check_signature(name, resolve(name), SIGNATURES[name])


@pytest.mark.parametrize("module", CALLS)
def test_library_still_uses_what_is_overridden_or_set(module):
    source = inspect.getsource(import_module(module))
    for text in CALLS[module]:
        check(text in source, module, f"no longer uses {text}")


def test_trainer_has_the_attributes_that_are_read(student, tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
    trainer = Trainer(AutoModelForCausalLM.from_pretrained(student), args)
    for name in ("is_fsdp_enabled", "is_deepspeed_enabled", "_train_batch_size", "loss_is_scaled_for_ga"):
        check(hasattr(trainer, name), f"transformers.Trainer.{name}", "is gone")
    for name in ("train_sampling_strategy", "data_seed", "n_gpu"):
        check(hasattr(args, name), f"transformers.TrainingArguments.{name}", "is gone")


def test_hooks_are_called_in_place_of_the_private_methods(student, tmp_path):
    """A training of two steps that saves, evaluates, loads the best checkpoint and is resumed."""
    called = []

    class Hooked(compat.TrainerHooks, Trainer):
        def accelerator_created(self):
            called.append(f"accelerator created: {self.is_fsdp_enabled}")

        def train_sampler(self, train_dataset=None):
            called.append("train sampler")
            return super().train_sampler(train_dataset)

        def items_in_step(self, batches, device):
            called.append(f"items of {len(batches)} batches")
            return super().items_in_step(batches, device)

        def before_save(self):
            called.append("before save")

        def after_load(self, checkpoint, model=None):
            called.append(f"after load of {Path(checkpoint).name}")

    rows = Dataset.from_list([{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 2)
    args = TrainingArguments(
        str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True, per_device_train_batch_size=1, max_steps=2,
        save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True,
    )  # fmt: skip

    def train(**resumed):
        called.clear()
        trainer = Hooked(AutoModelForCausalLM.from_pretrained(student), args, train_dataset=rows, eval_dataset=rows)
        assert trainer.batch_size_per_process == 1
        assert trainer.on_device({"ids": torch.tensor([1])})["ids"].device == trainer.args.device
        trainer.train(**resumed)

    train()
    assert [name for name in called if "items" not in name] == [
        "accelerator created: False", "train sampler", "before save", "after load of checkpoint-2",
    ]  # fmt: skip
    assert "items of 1 batches" in called
    train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert "after load of checkpoint-2" in called[: called.index("train sampler")]


def test_dpo_hooks_are_called_in_place_of_the_private_methods(student, tmp_path):
    from transformers import AutoTokenizer

    called = []

    class Hooked(compat.DPOHooks, DPOTrainer):
        def before_reference(self):
            called.append("before reference")

    rows = [{"prompt_ids": [2, 9], "chosen_ids": [11, 1], "rejected_ids": [12, 1]}]
    trainer = Hooked(
        model=AutoModelForCausalLM.from_pretrained(student),
        args=DPOConfig(str(tmp_path), use_cpu=True, report_to=[], precompute_ref_log_probs=True),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(student),
    )
    assert called == ["before reference"]
    assert set(rows[0]) < set(trainer.train_dataset.column_names)
    trainer._metrics["train"]["rewards/margins"] = [1.0, 2.0]
    trainer.scale_last_logged(["rewards/margins"], 0.5)
    assert trainer._metrics["train"]["rewards/margins"] == [1.0, 1.0]


@pytest.mark.parametrize("rank", [0, 1])
def test_accelerate_finds_the_sampler_of_a_prepared_loader(rank):
    """Seven items and a dummy, four a batch over two processes: the second epoch has another order than the first."""
    name = "accelerate.data_loader.BatchSamplerShard"
    sampler = FilledSampler(SeededShuffle(7, seed=3), 4)
    items = Dataset.from_dict({"x": range(8)})
    loader = DataLoader(items, batch_sampler=BatchSampler(sampler, 2, drop_last=False), collate_fn=lambda rows: rows)
    accelerate.PartialState(cpu=True)
    prepared = prepare_data_loader(loader, num_processes=2, process_index=rank, put_on_device=False)
    check(type(prepared.batch_sampler).__name__ == "BatchSamplerShard", name, "no longer cuts a loader into shares")
    shown = compat.show_sampler_to_accelerate(prepared)
    check(shown.batch_sampler.sampler is sampler, name, "no longer has batch_sampler.sampler")
    orders = []
    for epoch in range(2):
        shown.set_epoch(epoch)
        check(sampler.order.epoch == epoch, "accelerate.data_loader.DataLoaderShard", "no longer sets its epoch")
        orders.append([row["x"] for batch in shown for row in batch])
    check(shown.remainder in (-1, 0), "accelerate.data_loader.DataLoaderShard", "cuts off the last batch")
    assert orders[0] != orders[1] and all(len(order) == 4 for order in orders)


def test_seedable_sampler_draws_by_its_seed_and_epoch():
    first, same, other = (compat.seedable_sampler(20, seed) for seed in (3, 3, 4))
    name = "accelerate.data_loader.SeedableRandomSampler"
    check(hasattr(first, "set_epoch") and first.initial_seed == 3, name, "no longer takes data_seed")
    order = list(first)
    assert order == list(same) != list(other) and sorted(order) == list(range(20))
    assert list(first) != order  # of the next epoch


def test_fsdp_precision_is_set_where_accelerate_reads_it():
    from accelerate.utils import FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    check(hasattr(plugin, "mixed_precision_policy"), "accelerate.utils.FullyShardedDataParallelPlugin", "is another")
    compat.set_fsdp_precision(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)), "mine")
    assert plugin.mixed_precision_policy == "mine"


def test_model_says_where_it_was_loaded_from_and_how_it_attends(student):
    model = AutoModelForCausalLM.from_pretrained(student)
    for name in ("_name_or_path", "_attn_implementation"):
        check(hasattr(model.config, name), f"transformers.PretrainedConfig.{name}", "is gone")
    assert compat.loaded_from(model) == str(student)
    assert compat.attention_implementation(model.config) == "sdpa"
    settings = model.config.to_diff_dict()
    check("transformers_version" in settings, "transformers.PretrainedConfig.to_diff_dict", "names no version")
    assert settings.keys() - compat.model_settings(model.config).keys() <= {"transformers_version", "_name_or_path"}
    compat.load_conversion_patterns()


def test_adapter_names_its_parameters(student):
    model = AutoModelForCausalLM.from_pretrained(student)
    assert not compat.learns_prompt(model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["norm"]))
    for name in ("disable_adapter", "get_base_model", "active_peft_config"):
        check(hasattr(adapted, name), f"peft.PeftModel.{name}", "is gone")
    check(hasattr(adapted.base_model, "prefix"), "peft.tuners.BaseTuner.prefix", "is gone")
    parts = compat.adapter_name_parts(adapted)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    untouched = [name for name, parameter in adapted.named_parameters() if not parameter.requires_grad]
    check(all(any(part in name for part in parts) for name in trained), "peft.LoraModel", "names weights otherwise")
    assert not any(part in name for part in parts for name in untouched)
    assert not compat.learns_prompt(adapted)
    prompted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(student), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    check(compat.learns_prompt(prompted), "peft.PeftModel.active_peft_config.is_prompt_learning", "is gone")


@pytest.mark.parametrize("fails", [False, True])
def test_forward_is_replaced_once_and_comes_back(fails):
    class Doubled(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    model = Doubled()

    def function():
        if fails:
            raise InterruptedError
        return model(torch.tensor(3.0)) + 1  # the model's own forward

    try:
        with compat.replaced_forward(model, function):
            assert model(torch.tensor(0.0)) == 7
    except InterruptedError:
        assert fails
    assert model(torch.tensor(1.0)) == 2


def test_message_is_one_sentence():
    def moved(self, dataset):
        pass

    with pytest.raises(pytest.fail.Exception) as caught:
        check_signature("transformers.Trainer._get_train_sampler", moved, ("train_dataset",))
    expected = "Trainer._get_train_sampler no longer takes train_dataset; see gdpo/trainer/compat.py"
    assert str(caught.value) == f"transformers {version('transformers')}: {expected}"


def private_names(tree: ast.AST) -> set[str]:
    """The private names that a module defines in a class, or takes from an object."""
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {
        part.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.FunctionDef)
    }
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_module_uses_private_names_of_the_libraries(room):
    """Of the trainers and of the models' configurations; what a module defines for itself has other names."""
    package = Path(compat.__file__).parents[1]
    owners = (Trainer, SFTTrainer, DPOTrainer, GRPOTrainer, AutoModelForCausalLM)
    taken = {name for owner in owners for name in dir(owner)} | {"_attn_implementation", "_name_or_path", "_metrics"}
    for path in sorted((package / room).glob("*.py")):
        if path.name != "compat.py":
            used = private_names(ast.parse(path.read_text())) & taken
            assert not used, f"{path.name} uses {', '.join(sorted(used))}, which belongs in compat.py"

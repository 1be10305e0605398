"""What GDPOTrainer refuses in one sentence, before the reference is scored: arguments, models, rows, tokens."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    HfArgumentParser,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaModel,
    T5Config,
    T5ForConditionalGeneration,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from gdpo.core.errors import ArgumentError, DescribedError
from gdpo.trainer.checks import check_causal
from gdpo.trainer.dataset import DataError, completion_ids, prompt_ids, tokenize_groups
from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer
from gdpo.trainer.objective import gdpo_loss
from tests.refusal import refused

ROW = {"prompt": "1 +", "completions": ["2", "3 4"], "rewards": [1.0, 0.0]}
CHAT = {"prompt": [{"role": "user", "content": "1"}], "completions": ["2", "3 4"], "rewards": [1.0, 0.0]}
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def no_pass(monkeypatch):
    """A refusal comes before the reference scores anything."""
    monkeypatch.setattr(GDPOTrainer, "_ref_log_probs", lambda *_: pytest.fail("a pass was paid for"))


@pytest.fixture(scope="module")
def tokenizer(student):
    return AutoTokenizer.from_pretrained(student)


def config(path, **changes) -> GDPOConfig:
    return GDPOConfig(str(path), use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, **changes)


def policy(student):
    return AutoModelForCausalLM.from_pretrained(student)


def make(student, path, rows=(ROW,), model=None, **given) -> GDPOTrainer:
    """A trainer that scores no reference at its construction."""
    given = {"processing_class": AutoTokenizer.from_pretrained(student)} | given
    given.setdefault("args", config(path, precompute_ref_log_probs=False))
    return GDPOTrainer(str(student) if model is None else model, train_dataset=list(rows), **given)


# Settings


def test_help_is_printed():
    """argparse formats help by %, which a text must not hold alone."""
    assert "--beta" in HfArgumentParser(GDPOConfig).format_help()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("beta", "0.1", "a number"),
        ("beta", True, "a number"),
        ("beta", float("nan"), "a number above 0"),
        ("beta", float("inf"), "a number above 0"),
        ("learning_rate", "1e-4", "a number"),
        ("learning_rate", -1e-4, "a number from 0"),
        ("max_length", "512", "a whole number or None"),
        ("max_length", 0, "a number above 0"),
        ("max_forward_tokens", 1.5, "a whole number"),
        ("disable_dropout", "false", "True or False"),
        ("precompute_ref_log_probs", "False", "True or False"),
        ("reward_weights", 1.0, "a list of numbers or None"),
        ("reward_weights", ["1"], "a list of numbers or None"),
        ("ref_cache_dir", 3, "text or None"),
        ("num_train_epochs", "3", "a number"),
        ("per_device_train_batch_size", 0, "a number above 0"),
        ("gradient_accumulation_steps", 0, "a number above 0"),
        ("seed", None, "a whole number"),
        ("bf16_full_eval", True, "False by GDPOTrainer"),
    ],
)
def test_setting_of_a_wrong_type_or_range_is_refused(name, value, expected, tmp_path):
    with refused(ArgumentError, key=name, found=repr(value), expected=expected):
        config(tmp_path, **{name: value})


@pytest.mark.parametrize("name", ["randm", "group_by_length", "batch_rebalance"])
def test_sampling_strategy_without_meaning_for_groups_is_refused(name, tmp_path):
    with refused(ArgumentError, key="train_sampling_strategy", found=repr(name), hint="known: random, sequential"):
        config(tmp_path, train_sampling_strategy=name)


def test_settings_of_a_fitting_type_are_taken(tmp_path):
    """Whole numbers are numbers, paths are text, and what may be absent may be None."""
    made = config(tmp_path, beta=1, reward_weights=[1, 2.0], max_length=None, ref_cache_dir=tmp_path, data_seed=None)
    assert (made.beta, made.reward_weights, made.ref_cache_dir) == (1, [1, 2.0], tmp_path)


# Arguments


@pytest.mark.parametrize(
    ("given", "key", "found"),
    [
        ({"model": 3}, "model", "int"),
        ({"model": torch.nn.Linear(1, 1)}, "model", "Linear"),
        ({"model": AutoModelForCausalLM}, "model", "the class AutoModelForCausalLM"),
        ({"ref_model": 3}, "ref_model", "int"),
        ({"ref_model": torch.nn.Linear(1, 1)}, "ref_model", "Linear"),
        ({"args": {"beta": 0.1}}, "args", "dict"),
        ({"args": TrainingArguments("x", use_cpu=True)}, "args", "TrainingArguments"),
        ({"processing_class": 3}, "processing_class", "int"),
        ({"processing_class": AutoTokenizer}, "processing_class", "the class AutoTokenizer"),
        ({"peft_config": {"r": 8}}, "peft_config", "dict"),
    ],
)
def test_argument_of_a_wrong_type_is_refused(given, key, found, student, tmp_path):
    with refused(ArgumentError, key=key, found=found, expected=""):
        make(student, tmp_path, **given)


def test_model_none_is_refused(student, tmp_path, tokenizer):
    with refused(ArgumentError, key="model", found="none", expected="a causal language model"):
        GDPOTrainer(None, args=config(tmp_path), train_dataset=[ROW], processing_class=tokenizer)


# Models


def llama(kind):
    return kind(LlamaConfig(vocab_size=17, **SIZES, pad_token_id=0, bos_token_id=None, eos_token_id=1))


def bert(kind):
    return kind(BertConfig(vocab_size=17, max_position_embeddings=32, **SIZES))


def t5():
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(vocab_size=17, **shape, decoder_start_token_id=0))


NOT_CAUSAL = [
    (lambda: llama(LlamaForSequenceClassification), "LlamaForSequenceClassification, which has no language model"),
    (lambda: llama(LlamaForTokenClassification), "LlamaForTokenClassification, which has no language modelling head"),
    (lambda: llama(LlamaModel), "LlamaModel, which has no language modelling head"),
    (t5, "T5ForConditionalGeneration, an encoder-decoder"),
    (lambda: bert(BertForMaskedLM), "BertForMaskedLM, which attends to the tokens that follow"),
    (lambda: bert(BertLMHeadModel), "BertLMHeadModel, which attends to the tokens that follow"),
]


@pytest.mark.parametrize(("build", "found"), NOT_CAUSAL)
@pytest.mark.parametrize("key", ["model", "ref_model"])
def test_model_that_is_no_causal_language_model_is_refused(key, build, found, student, tmp_path):
    with refused(ArgumentError, key=key, found=found, expected="a causal language model"):
        make(student, tmp_path, **{key: build()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_causal_models_pass_the_trial(dtype, student):
    check_causal("model", policy(student).to(dtype))
    decoder = BertConfig(vocab_size=17, max_position_embeddings=32, is_decoder=True, **SIZES)
    check_causal("model", BertLMHeadModel(decoder).to(dtype))
    check_causal("model", GPT2LMHeadModel(GPT2Config(vocab_size=17, n_embd=16, n_layer=1, n_head=2)).to(dtype))


def test_trial_keeps_the_model_as_it_was(student):
    model = policy(student).train()
    drawn = torch.get_rng_state()
    check_causal("model", model)
    assert model.training and torch.equal(torch.get_rng_state(), drawn)


def test_checkpoint_without_a_head_is_refused(student, tmp_path):
    """A classifier's checkpoint loads as a language model whose head is drawn at random."""
    llama(LlamaForSequenceClassification).save_pretrained(tmp_path / "classifier")
    with refused(ArgumentError, key="model", found="no weights for lm_head.weight", expected="LlamaForCausalLM"):
        make(student, tmp_path, model=str(tmp_path / "classifier"))


def test_reference_that_training_moves_is_refused(student, tmp_path):
    """peft puts its adapter into the model that it is given, which then is no reference of its own."""
    from peft import LoraConfig, get_peft_model

    base = policy(student)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    with refused(ArgumentError, key="ref_model", found="weights that are model's", hint="leave it out"):
        make(student, tmp_path, model=adapted, ref_model=base)


def test_training_in_half_precision_is_said(student, tmp_path, warnings):
    make(student, tmp_path, model=policy(student).to(torch.bfloat16))
    assert [w for w in warnings if "weights in bfloat16 are trained, which rounds most steps of" in w]
    warnings.clear()
    make(student, tmp_path)
    assert warnings == []


# Rows

LONE = "2 \ud83d"


@pytest.mark.parametrize(
    ("row", "key", "found"),
    [
        ("1 + 2", "row 1", "str"),
        (["1", "2"], "row 1", "list"),
        (None, "row 1", "NoneType"),
        (ROW | {"prompt": [{"content": "1"}]}, "row 1, prompt[0]", "no role"),
        (CHAT | {"prompt": [*CHAT["prompt"], {"role": None, "content": "1"}]}, "row 1, prompt[1]", "no role"),
        (CHAT | {"prompt": [{"role": 7, "content": "1"}]}, "row 1, prompt[0]", "the role 7"),
        (CHAT | {"completions": ["2", [{"content": "3"}]]}, "row 1, completions[1][0]", "no role"),
        (ROW | {"prompt": LONE}, "row 1, prompt", "the lone surrogate '\\ud83d'"),
        (ROW | {"completions": ["2", LONE]}, "row 1, completions[1]", "the lone surrogate '\\ud83d'"),
        (CHAT | {"prompt": [{"role": "user", "content": LONE}]}, "row 1, prompt", "the lone surrogate '\\ud83d'"),
        (CHAT | {"chat_template_kwargs": "x"}, "row 1, chat_template_kwargs", "str"),
        (CHAT | {"tools": "{"}, "row 1, tools", "'{'"),
        (CHAT | {"prompt": [{"role": "user", "content": 5}]}, "row 1, prompt", "from the chat template"),
    ],
)
@pytest.mark.parametrize("rewarded", [False, True])
def test_row_that_is_no_group_is_refused(rewarded, row, key, found, student, tmp_path):
    """With given rewards as with reward functions, which are not called before."""
    functions = {"reward_funcs": lambda completions, **_: [float(n) for n in range(len(completions))]}
    with refused(DataError, key=key, found=found, expected=""):
        make(student, tmp_path, [ROW, row], **functions if rewarded else {})


def test_emoji_and_foreign_letters_are_text(tokenizer):
    texts = ["😀 é 漢", "2"]
    assert tokenize_groups([ROW | {"completions": texts}], tokenizer)[0]["index"] == [0, 1]


def test_tokenizer_without_chat_template_is_refused(student, tmp_path, tokenizer):
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    with refused(DataError, key="processing_class", found="none", expected="a chat template"):
        make(student, tmp_path, [CHAT], processing_class=plain)
    assert len(make(student, tmp_path, [ROW], processing_class=plain).train_dataset) == 1


# Tokens and positions


def test_tokenizer_larger_than_the_model_is_refused(student, tmp_path, tokenizer):
    """The model knows tokens 0 to 16. Data that use no others train, whatever the tokenizer has."""
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens(["new", "more"])
    rows = [ROW, ROW | {"completions": ["2", "3", "4 more"], "rewards": [1, 0, 2]}]
    expected = "tokens below 17, which is all that model knows"
    with refused(DataError, key="row 1, completions[2]", found="token 18, 'more'", expected=expected):
        make(student, tmp_path, rows, processing_class=larger)
    with refused(DataError, key="row 0, prompt", found="token 17, 'new'", expected=expected):
        make(student, tmp_path, [ROW | {"prompt": "new 1"}], processing_class=larger)
    assert len(make(student, tmp_path, [ROW], processing_class=larger).train_dataset) == 1


def test_pad_token_that_the_model_does_not_know_is_not_used(student, tmp_path, tokenizer):
    padded = copy.deepcopy(tokenizer)
    padded.add_special_tokens({"pad_token": "[PAD]"})
    made = make(student, tmp_path, processing_class=padded)
    assert padded.pad_token_id == 17 and made.data_collator.packing.pad_token_id == tokenizer.eos_token_id


def test_reference_of_fewer_tokens_is_refused(student, tmp_path):
    small = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=10, **SIZES))
    with refused(DataError, key="row 0, completions[1]", found="token 10, '3'", expected="that ref_model knows"):
        make(student, tmp_path, ref_model=small)


def gpt2(positions):
    shape = {"vocab_size": 17, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": positions}
    return GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=1, eos_token_id=1))


@pytest.mark.parametrize("key", ["model", "ref_model"])
def test_learned_positions_exceeded_are_refused(key, student, tmp_path):
    """A prompt of 5 tokens and completions of 2 and 4, their end included: 9 positions are enough and 8 are not."""
    row = {"prompt": "1 1 1 1 1", "completions": ["2", "3 4 5"], "rewards": [1.0, 0.0]}
    expected = f"at most 8, the positions of {key}"
    with refused(DataError, key="row 0, completions[1]", found="9 tokens", expected=expected, hint="max_length=8"):
        make(student, tmp_path, [row], **{key: gpt2(8)})
    make(student, tmp_path, [row], **{key: gpt2(9)})
    with refused(DataError, key="row 0, prompt", found="9 tokens", expected=expected):
        make(student, tmp_path, [row | {"prompt": "1 " * 9}], **{key: gpt2(8)})


def test_rotary_positions_exceeded_are_said(student, tmp_path, warnings):
    model = policy(student)
    model.config.max_position_embeddings = 4
    make(student, tmp_path, model=model)
    assert warnings == ["train_dataset: 1 completions go beyond the 4 positions that model was made for"]


# A tokenizer that ends what it encodes


def ending(tokenizer, single):
    made = copy.deepcopy(tokenizer)
    marks = [("<|end|>", made.eos_token_id), ("<|user|>", 2)]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    return made


@pytest.mark.parametrize("single", ["$A <|end|>", "<|user|> $A <|end|>", "<|user|> $A"])
def test_end_of_sequence_that_a_tokenizer_appends_is_dropped_from_prompts(single, tokenizer, warnings):
    """1 + is 8 5; <|end|> is 1, <|user|> stands for a token at the beginning, which stays."""
    made = ending(tokenizer, single)
    begin = [2] if single.startswith("<") else []
    assert made("1 +")["input_ids"] == [*begin, 8, 5, *([1] if single.endswith(">") and "end" in single else [])]
    transformers_logging.warning_once.cache_clear()
    assert prompt_ids(made, "1 +") == [*begin, 8, 5] and prompt_ids(made, "") == begin
    assert completion_ids(made, "2", "1 +") == [9, 1]
    said = [w for w in warnings if "it is left out of prompts" in w]
    assert len(said) == (1 if "end" in single else 0)
    (group,) = tokenize_groups([ROW], made)
    assert group["prompt_ids"] == [*begin, 8, 5] and group["sequences"] == [[9, 1], [10, 11, 1]]


def test_end_of_sequence_that_a_prompt_itself_holds_stays(tokenizer):
    """The user's own end token is text: one is kept, and of two the one that was appended is dropped."""
    assert prompt_ids(tokenizer, "1 <|end|>") == [8, 1]
    assert prompt_ids(ending(tokenizer, "$A <|end|>"), "1 <|end|>") == [8, 1]
    assert prompt_ids(tokenizer, CHAT["prompt"]) == prompt_ids(ending(tokenizer, "$A <|end|>"), CHAT["prompt"])


# Every refusal is one sentence


def test_refusals_are_one_sentence(student, tmp_path):
    for given in ({"model": 3}, {"args": {}}, {"model": t5()}, {"rows": [ROW, "x"]}):
        with pytest.raises(DescribedError) as caught:
            make(student, tmp_path, **given)
        assert "\n" not in str(caught.value) and isinstance(caught.value, ValueError)


def test_model_given_as_a_path_object(student, tmp_path):
    assert len(make(student, tmp_path, model=Path(student)).train_dataset) == 1


def test_dataset_rows_are_groups(student, tmp_path, tokenizer):
    args = config(tmp_path, precompute_ref_log_probs=False)
    made = GDPOTrainer(str(student), args=args, train_dataset=Dataset.from_list([ROW]), processing_class=tokenizer)
    assert len(made.train_dataset) == 1


def test_predict_takes_groups(student, tmp_path, tokenizer):
    """Raw groups as `evaluate` takes them; what is none is one sentence."""
    made = make(student, tmp_path, ref_model=policy(student))
    with refused(DataError, key="row 0", found="str"):
        made.predict(["1 + 2"])
    with refused(DataError, key="test_dataset", found="several sets"):
        made.predict({"a": [ROW]})


def test_loss_and_config_have_the_same_defaults(tmp_path):
    made, given = config(tmp_path), inspect.signature(gdpo_loss).parameters
    for name in ("beta", "pairs", "link", "advantage"):
        assert getattr(made, name) == given[name].default

"""How far a teacher is from a student: the student's NLL of the completions that SFT takes, in nats a token (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gdpo.config.layout import Layout
from gdpo.core.records import Group, read_records

Answered = tuple[list[dict[str, str]], str]  # a prompt and a completion
DIGITS = 4


def best_right(groups: Sequence[Group]) -> list[Answered]:
    """Each group's right completion of the highest reward, the first of equals, with its prompt; none where none is."""
    found = []
    for group in groups:
        graded = zip(group.rewards, group.completions, group.parts, strict=True)
        right = [(reward, text) for reward, text, part in graded if part.verdict == "right"]
        if right:
            found.append((group.prompt, max(right, key=lambda pair: pair[0])[1]))
    return found


def mean_nll(checkpoint: Path, answered: Sequence[Answered]) -> float:
    """Nats a token of the completions under the model at `checkpoint`, the end of sequence among them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from gdpo.trainer.chat_template import rendered

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True).eval()
    total, count = 0.0, 0
    for conversation, answer in answered:
        prompt = tokenizer(rendered(tokenizer, conversation), add_special_tokens=False)["input_ids"]
        reply = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids = torch.tensor([prompt + reply])
        with torch.inference_mode():
            logits = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        total -= float(logits.gather(-1, torch.tensor(reply)[:, None]).sum())
        count += len(reply)
    return total / count


def distances(layout: Layout, student: str, sets: Sequence[str]) -> dict[str, float | None]:
    """Training set -> the NLL of its best right completions; None of a set without graded or without right ones."""
    found: dict[str, float | None] = {}
    for name in sets:
        groups = read_records(layout.groups(name), Group)
        answered = best_right(groups) if all(group.parts for group in groups) else []
        found[name] = round(mean_nll(layout.model(student), answered), DIGITS) if answered else None
    return found

"""A world's premises as numbers: columns at Origin, levels of rewards, distances of the teachers.

Reads what is finished in results/trial/world-N and says what is missing. Exits with 1 where a column is out of its
bounds for both students: above 97%, or within its chance level. docs/protocol_pilots.md has what pilots gave.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gdpo.config.layout import Layout, origin
from gdpo.config.loader import load_scale
from gdpo.core.records import Group, read_records
from gdpo.core.result_files import RunScores, read_stored
from gdpo.teach.levels import describe

HIGHEST = 0.97  # ours: above it nothing can be gained, and nearly nothing told


def within_chance(score: float, chance: float, items: int) -> bool:
    """Whether a share right of `items` is no more than guessing gives: below `chance` and two standard errors."""
    return score <= chance + 2 * (chance * (1 - chance) / items) ** 0.5


def best(groups: list[Group]) -> list[tuple[list[dict[str, str]], str]]:
    """Each group's best completion by reward, the first of equals, as SFT takes it, with its prompt."""
    return [(g.prompt, g.completions[g.rewards.index(max(g.rewards))]) for g in groups]


def mean_nll(checkpoint: Path, answered: list[tuple[list[dict[str, str]], str]]) -> float:
    """Nats a token of the answers under the model at `checkpoint`, the end of sequence among them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from gdpo.trainer.chat_template import rendered

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
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


def origins(layout: Layout) -> bool:
    """Print each column's score at Origin; whether every column has a student within its bounds."""
    scores = {}
    for student in layout.scale.students:
        path = layout.score(origin(student)[0], "test")
        if not path.exists():
            print(f"missing: {path}")
            return True
        scores[student] = read_stored(path, RunScores)["benchmarks"]
    whole = True
    print(f"{'column':<12}{'role':<10}" + "".join(f"{student:>10}" for student in scores) + "   out of bounds")
    for name, entry in layout.scale.benchmarks.items():
        values = [scores[student][name]["score"] for student in scores]
        out = [v > HIGHEST or within_chance(v, entry.chance, entry.items or 1) for v in values]
        whole = whole and not all(out)
        named = ", ".join(s for s, wrong in zip(scores, out, strict=True) if wrong)
        print(f"{name:<12}{entry.role:<10}" + "".join(f"{100 * v:>10.1f}" for v in values) + f"   {named}")
    return whole


def rewards(layout: Layout) -> None:
    print(f"\n{'set':<20}{'groups':>8}{'contrast':>10}{'levels':>8}{'length alone':>14}{'right':>8}")
    for name in layout.scale.trainsets:
        if layout.groups(name).exists():
            groups = read_records(layout.groups(name), Group)
            found, parts = describe(groups), [part.verdict for group in groups for part in group.parts]
            right = f"{parts.count('right') / len(parts):.3f}" if parts else ""
            print(
                f"{name:<20}{found['groups']:>8}{found['with_contrast']:>10}{found['median_levels']:>8}"
                f"{found['length_alone']:>14.3f}{right:>8}"
            )


def distances(layout: Layout, doses: dict[str, list[str]]) -> None:
    """Print the NLL of the best completions of each set in `doses`, by student."""
    print(f"\n{'student':<10}{'set':<20}{'nats a token':>14}")
    for student, sets in doses.items():
        for name in sets:
            if layout.groups(name).exists() and layout.model(student).exists():
                groups = read_records(layout.groups(name), Group)
                print(f"{student:<10}{name:<20}{mean_nll(layout.model(student), best(groups)):>14.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="trial")
    parser.add_argument("--world", type=int, required=True)
    given = parser.parse_args()
    layout = Layout(load_scale(given.scale, world=given.world))
    whole = origins(layout)
    rewards(layout)
    doses = {f"tiny-{end}": [f"metakl-self-{end}", "metakl", "metakl-foreign"] for end in "sm"}
    distances(layout, doses)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())

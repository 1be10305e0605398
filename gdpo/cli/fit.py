"""The command that trains a model on a file of groups by GDPOTrainer, without a scale."""

from __future__ import annotations

import argparse
from pathlib import Path

from gdpo.cli.parser import Arguments, Commands, Parser, add_plain_command, whole_number

LEARNING_RATE = 2e-6  # paper
LORA_LEARNING_RATE = 2e-5  # ours: ten times the full rate, as the scales have it


def positive_whole(text: str) -> int:
    """The type of an option that takes a whole number above 0."""
    if (value := whole_number(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found '{text}'")
    return value


def positive(text: str) -> float:
    """The type of an option that takes a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found '{text}'")
    return value


def seed(text: str) -> int:
    """The type of an option that takes a seed; NumPy takes 32 bits."""
    if not 0 <= (value := whole_number(text)) < 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**32 - 1}, found '{text}'")
    return value


def fit(arguments: Arguments) -> None:
    from gdpo.trainer.fit import Fit
    from gdpo.trainer.fit import fit as train

    rate = arguments.learning_rate or (LORA_LEARNING_RATE if arguments.lora_rank else LEARNING_RATE)
    given = {name: value for name, value in vars(arguments).items() if name in Fit.__dataclass_fields__}
    train(Fit(**given | {"learning_rate": rate}))


def add(commands: Commands[Parser]) -> None:
    command = add_plain_command(
        commands, "fit", "train any model by GDPO on your own groups", fit,
        examples=[
            "gdpo fit --model HuggingFaceTB/SmolLM2-135M-Instruct --data examples/groups.jsonl --out trained",
            "gdpo fit --model DIR --data groups.jsonl --eval-data heldout.jsonl --lora-rank 16 --max-length 4096",
        ],
    )  # fmt: skip
    data = command.add_argument_group("model and data")
    data.add_argument("--model", required=True, metavar="MODEL", help="a checkpoint's directory, or a name on the Hub")
    data.add_argument(
        "--data", required=True, type=Path, metavar="FILE",
        help="JSON Lines with 'prompt', 'completions' and 'rewards' (examples/README.md)",
    )  # fmt: skip
    data.add_argument("--out", type=Path, default=Path("trained"), metavar="DIR", help="where the trained model goes")
    data.add_argument(
        "--eval-data", type=Path, metavar="FILE", help="groups to evaluate on after each epoch; absent: none"
    )
    add_training(command)
    add_objective(command)
    add_memory(command)


def add_training(command: Parser) -> None:
    training = command.add_argument_group("training")
    training.add_argument(
        "--learning-rate", type=positive, metavar="RATE",
        help=f"of AdamW, after a warmup; absent: {LEARNING_RATE:g} as in the paper, {LORA_LEARNING_RATE:g} with LoRA",
    )  # fmt: skip
    training.add_argument("--epochs", type=positive, default=2.0, metavar="N", help="passes over the groups")
    training.add_argument(
        "--batch-size", type=positive_whole, default=128, metavar="N", help="groups of a step; the paper's default"
    )
    training.add_argument("--lora-rank", type=positive_whole, metavar="R", help="train an adapter; absent: all weights")
    training.add_argument("--lora-alpha", type=positive_whole, metavar="A", help="its scale; absent: twice the rank")
    training.add_argument("--seed", type=seed, default=0, metavar="N", help="of the order and the adapter")
    training.add_argument(
        "--save-steps", type=positive_whole, default=50, metavar="N",
        help="steps between the checkpoints in OUT.work, from which the same call resumes",
    )  # fmt: skip


def add_objective(command: Parser) -> None:
    """The reading of the objective; names and defaults are GDPOConfig's, which takes seconds to import."""
    objective = command.add_argument_group("objective (docs/objective.md)")
    objective.add_argument(
        "--beta", type=positive, default=0.1, metavar="B", help="inverse temperature, as in the paper"
    )
    objective.add_argument(
        "--advantage", choices=["literal", "unweighted", "shifted", "reciprocal", "gap"], default="shifted",
        help="how the advantage weighs a log-ratio; literal is the printed form",
    )  # fmt: skip
    objective.add_argument(
        "--pairs", choices=["adjacent", "all"], default="adjacent", help="pairs of eq. 13, or of eq. 12"
    )
    objective.add_argument("--link", choices=["sigmoid", "logsigmoid"], default="sigmoid", help="loss of a pair")
    objective.add_argument(
        "--length", choices=["sum", "mean"], default="sum", help="a completion's log-ratio over its tokens"
    )


def add_memory(command: Parser) -> None:
    memory = command.add_argument_group("memory")
    memory.add_argument(
        "--max-length", type=positive_whole, default=1024, metavar="N",
        help="tokens of prompt and completion; a longer completion is cut",
    )  # fmt: skip
    memory.add_argument(
        "--micro-batch-size", type=positive_whole, default=1, metavar="N", help="groups in memory at once"
    )
    memory.add_argument(
        "--max-activation-tokens", type=positive_whole, metavar="N",
        help="tokens whose activations are kept, the others' are computed again; absent: all",
    )  # fmt: skip

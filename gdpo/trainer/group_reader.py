"""From rows to the groups that GDPOTrainer trains on: rewarded, checked, tokenized, and those that make a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, TrainerState
from transformers.utils import logging

from gdpo.trainer.checks import Limits, check_groups
from gdpo.trainer.dataset import ORIGIN, DataError, Dropped, UnfitRows, fitting_groups, shown
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.reward_funcs import RewardLog, Scorer, apply_reward_funcs
from gdpo.trainer.rows import as_rows
from gdpo.trainer.ties import drop_tied_groups

logger = logging.get_logger(__name__)

READER = "reader"  # the column that says whose groups they are
READ = {"prompt_ids", "sequences", "index"}  # columns of groups that a trainer has read


class GroupReader:
    """Reads a trainer's data sets, those of its construction and later ones alike, and says what is left out.

    Attributes:
        name: what marks the groups that it has read, in their column `reader`.
        tied: by data set, how many groups have rewards that are all equal, and make no pair.
        dropped: by data set, how many completions and groups were empty or too long.
        reward_columns: by data set, what reward functions gave to `log_extra`.
        reward_means: by the prefix that they are logged with, what the reward functions log.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        args: GDPOConfig,
        reward_funcs: Sequence[Scorer] = (),
        limits: Sequence[Limits] = (),
    ):
        self.tokenizer, self.args, self.reward_funcs, self.limits = tokenizer, args, reward_funcs, limits
        self.name = uuid4().hex
        self.tied: dict[str, int] = {}
        self.dropped: dict[str, Dropped] = {}
        self.reward_columns: dict[str, dict[str, list[Any]]] = {}
        self.reward_means: dict[str, dict[str, float]] = {}

    def read(self, name: str, given: Any, state: TrainerState | None = None, prefix: str = "train") -> Dataset:
        """The groups of the data set `name` that make a pair, tokenized (`gdpo.trainer.dataset.tokenize_groups`).

        `state` is what reward functions are given as `trainer_state`. Raises DataError naming data set or row.
        """
        args, log = self.args, RewardLog()
        rows, unfit = as_rows(name, given), UnfitRows(args.empty_completions, args.long_prompts)
        if self.reward_funcs:
            rows = apply_reward_funcs(
                rows, self.reward_funcs, self.tokenizer, args.reward_weights,
                state=state, log=log, device=args.device, unfit=unfit,
            )  # fmt: skip
        groups, dropped = fitting_groups(rows, self.tokenizer, args.max_length, unfit=unfit)
        check_groups(name, groups, self.limits, self.tokenizer)
        groups = [{key: value for key, value in group.items() if key not in ORIGIN} for group in groups]
        self._say(name, groups, dropped)
        informative = drop_tied_groups(groups)
        self.tied[name], self.dropped[name] = len(groups) - len(informative), dropped
        if self.tied[name]:
            tied = f"{self.tied[name]} of {len(groups)} groups have no two different rewards"
            logger.warning(f"{name}: {tied}, and are left out")
        self.reward_columns[name], self.reward_means[prefix] = dict(log.columns), log.means()
        return Dataset.from_list([group | {READER: self.name} for group in informative])

    def has_read(self, given: Any) -> bool:
        """Whether a data set's groups come from this reader, and all of them.

        Raises DataError where they come from another one: its tokens may be those of another tokenizer, its scores
        those of another reference.
        """
        columns = set(getattr(given, "column_names", None) or ()) if isinstance(given, Dataset) else set()
        if not columns >= READ or "prompt" in columns:
            return False
        if READER in columns and set(given[READER]) <= {self.name}:
            return True
        found, expected = "groups that another trainer has read", "prompts, completions and rewards"
        raise DataError(key="eval_dataset", found=found, expected=expected)

    def read_sets(
        self, given: Any, state: TrainerState | None = None, prefix: str = "eval"
    ) -> Dataset | dict[str, Dataset]:
        """The groups of `eval_dataset`, of each set where it has several by name."""
        if not isinstance(given, Mapping):
            return self.read("eval_dataset", given, state, prefix)
        for name in given:
            if not isinstance(name, str):
                raise DataError(key="eval_dataset", found=f"the name {shown(name)}", expected="sets named by text")
        return {
            name: self.read(f"eval_dataset[{name!r}]", rows, state, f"{prefix}_{name}") for name, rows in given.items()
        }

    def _say(self, name: str, groups: Sequence[dict[str, Any]], dropped: Dropped) -> None:
        """Warn of what is cut and dropped; takes `cut` out of the groups."""
        cut = sum(group.pop("cut") for group in groups)
        length = f"max_length={self.args.max_length} tokens"
        if cut:
            total = sum(len(group["index"]) for group in groups)
            logger.warning(f"{name}: {cut} of {total} completions are cut at {length}")
        if dropped.empty_completions:
            small = f", and {dropped.small_groups} groups that have fewer than two without them"
            logger.warning(
                f"{name}: {dropped.empty_completions} empty completions are dropped{small * bool(dropped.small_groups)}"
            )
        if dropped.long_prompts:
            logger.warning(f"{name}: {dropped.long_prompts} groups are dropped, whose prompts have {length} or more")

"""What a data set of groups may be given as: a Dataset, a stream, any iterable of rows; several by their names.

The reference scores all groups before training, and groups are counted by what becomes of them, so that a stream is
read once and kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from datasets import Dataset, IterableDataset
from torch.utils.data import IterableDataset as TorchStream
from transformers.utils import logging

from gdpo.trainer.dataset import DataError

logger = logging.get_logger(__name__)

Rows: TypeAlias = Iterable[dict[str, Any]]
RowSets: TypeAlias = Rows | Mapping[str, Rows]


def as_rows(name: str, given: Any) -> Rows:
    """The rows of the data set called `name`, which can be read more than once.

    A stream (`IterableDataset`, a generator) is read to its end, and a warning says how many rows are kept. Raises
    DataError where `given` is no data set.
    """
    if isinstance(given, Dataset):
        rows: Rows = given.with_format(None)
        return rows
    if isinstance(given, list | tuple):
        return given
    if isinstance(given, type | str | bytes | Mapping):
        raise _refusal(name, given)
    if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, TorchStream):
        try:
            return [given[place] for place in range(len(given))]  # torch's own data sets, which need not be iterable
        except (KeyError, TypeError, NotImplementedError) as error:  # a table, whose places are names
            raise _refusal(name, given) from error
    if not isinstance(given, Iterable):
        raise _refusal(name, given)
    read = list(given.with_format(None) if isinstance(given, IterableDataset) else given)
    logger.warning(f"{name}: the stream's {len(read)} rows are read once and kept in memory")
    return read


def _refusal(name: str, given: Any) -> DataError:
    """The error that what is given as the data set called `name` is none."""
    found = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
    hint = None
    if isinstance(given, Mapping) and given:
        hint = f"choose one of {', '.join(map(str, given))}"
    if hasattr(given, "to_dict") and not isinstance(given, type):
        hint = "datasets.Dataset.from_pandas makes one of a DataFrame"
    found = "none" if given is None else found
    return DataError(key=name, found=found, expected="a list or a datasets.Dataset of groups", hint=hint)

"""What a test expects of an error for users: its fields, so that the wording of its sentence can change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gdpo.core.errors import DescribedError, UserError


@contextmanager
def refused(kind: type[DescribedError] = UserError, **fields: object) -> Iterator[pytest.ExceptionInfo]:
    """The block raises an error of this kind with these fields; a text may be part of the field's, a pattern too.

    Example: `with refused(path=file, key="seeds", expected="a list"): load_scale(file)`.
    """
    with pytest.raises(kind) as caught:
        yield caught
    for name, wanted in fields.items():
        given = getattr(caught.value, name)
        if isinstance(wanted, re.Pattern):
            assert given is not None and wanted.search(str(given)), (name, given, str(caught.value))
        elif isinstance(wanted, str):
            assert given is not None and wanted in str(given), (name, given, str(caught.value))
        else:
            assert given == wanted, (name, given, str(caught.value))

"""A packed world is read as it was written, two bits an item."""

from __future__ import annotations

import numpy as np
import pytest

from gdpo.core.errors import UserError
from gdpo.report.trial.packing import pack, read_world, unpack, write_world
from tests.report.trial.made_worlds import world


def test_pack_by_hand():
    """Codes 3 0 1 2 are 11 00 01 10; of a second row's fifth item two bits and six zeros."""
    assert pack(np.array([[3, 0, 1, 2, 3], [0, 0, 0, 0, 2]], dtype=np.uint8)).hex() == "c6c00080"


@pytest.mark.parametrize("items", [1, 3, 4, 5, 3800])
def test_unpack_inverts_pack(items):
    codes = np.random.default_rng(items).integers(4, size=(3, items)).astype(np.uint8)
    packed = pack(codes)
    assert len(packed) == 3 * -(-items // 4)
    assert (unpack(packed, items) == codes).all()


def test_world_is_read_as_written(tmp_path):
    made = world({("narrow", "sft", "0.001"): (9, 5, 4, 8, 8, 5)}).world
    write_world(tmp_path / "world", made)
    read = read_world(tmp_path / "world")
    assert read.about == made.about
    assert (read.codes == made.codes).all()
    assert read.keys() == [("s", "none", "origin", "", 0), ("s", "narrow", "sft", "0.001", 0)]
    assert read.right()["one"].tolist() == [0.8, 0.4]


def test_verdicts_that_belong_elsewhere_are_refused(tmp_path):
    write_world(tmp_path / "world", world({("narrow", "sft", "0.001"): (9, 5, 4, 8, 8, 5)}).world)
    path = tmp_path / "world" / "verdicts.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"verdicts.bin: found 29 bytes, expected 30, of 2 runs and 60 items"):
        read_world(tmp_path / "world")
    path.unlink()
    with pytest.raises(UserError, match=r"verdicts.bin: no such file"):
        read_world(tmp_path / "world")

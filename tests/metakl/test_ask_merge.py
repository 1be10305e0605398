"""Merging by an endpoint: deterministic batches of names that share a stem; each name in exactly one unit."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdpo.config.endpoint import Endpoint
from gdpo.core.errors import UserError
from gdpo.metakl.ask_merge import batches, merge_skills, read_units, stems_of
from tests.fault_server import FaultServer

NAMES = [
    "adding_fractions", "addition_of_fractions", "fraction_addition", "modular_arithmetic", "arithmetic_modulo",
    "pythagoras_theorem", "pythagorean_theorem", "juggling",
]  # fmt: skip


def asked(body):
    return body["messages"][1]["content"].splitlines()[1:-1]


def endpoint(server, **changes):
    quick = {"timeout": 20.0, "backoff": 0.01, "key": None, "model": "m"}
    return Endpoint(base_url=server.url, **quick | changes)


def by_first_letters(body, number):
    """A model that merges names of the same first three letters, under the first of them."""
    groups = {}
    for name in asked(body):
        groups.setdefault(name[:3], []).append(name)
    return json.dumps({group[0]: group for group in groups.values()})


def test_names_sharing_a_stem_are_merged_by_the_reply(tmp_path):
    extra = {}
    with FaultServer(by_first_letters) as server:
        unit_of = merge_skills(NAMES, endpoint(server), tmp_path / "j", extra)
        assert "juggling" not in str(server.received)  # it shares no stem, so it costs nothing
        assert merge_skills(NAMES[::-1], endpoint(server), tmp_path / "j", {}) == unit_of
        assert len(server.received) == extra["endpoint"]["requests"] == 1
    assert unit_of == {name: name for name in NAMES} | {
        "adding_fractions": "addition_of_fractions",
        "pythagorean_theorem": "pythagoras_theorem",
    }


def test_names_without_a_common_stem_send_no_request(tmp_path):
    with FaultServer(by_first_letters) as server:
        assert merge_skills(["juggling", "chess"], endpoint(server), tmp_path / "j", {}) == {
            "juggling": "juggling",
            "chess": "chess",
        }
        assert server.received == []


def test_reply_that_omits_a_name_is_retried_then_reported(tmp_path):
    def forgets(body, number):
        groups = json.loads(by_first_letters(body, number)) if len(body["messages"]) == 2 else {"x": NAMES[:-1]}
        return json.dumps(dict(list(groups.items())[1:]))

    with FaultServer(forgets) as server:
        with pytest.raises(UserError, match=r"merge: 1 had no reply that fits, first batch 1: it leaves out \"add"):
            merge_skills(NAMES, endpoint(server, max_rephrasings=2), tmp_path / "j", {})
        assert "it leaves out" in server.received[1]["messages"][-1]["content"]


def test_batch_size_leaves_room_for_the_reply(tmp_path):
    """At 20 tokens a name, 100 tokens hold 5 names: 30 names of one stem take 6 requests."""
    names = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}x_algebra" for n in range(30)]
    with FaultServer(by_first_letters) as server:
        merge_skills(names, endpoint(server, max_tokens=100), tmp_path / "j", {})
        assert sorted(len(asked(body)) for body in server.received) == [5] * 6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"u": ["a", "b"], "c": ["c"]}', None),
        ('```json\n{"U V": ["a", "b", "c"]}\n```', None),
        ('{"u": ["a", "b"]}', 'it leaves out "c"'),
        ('{"u": ["a", "b", "c", "d"]}', 'it adds "d"'),
        ('{"u": ["a", "b"], "v": ["b", "c"]}', '"b" is in it twice'),
        ('{"u": ["a", "b"], "a": ["c"]}', '"a" names a group that it is not in'),
        ('{"a": ["b"], "c": ["a", "c"]}', '"a" names a group that it is not in'),
        ('{"b": ["a", "b"], "c": ["c"]}', None),
        ('{"u": "a"}', 'the value of "u" is no list of names'),
        ('{"u": ["a", ["b"], "c"]}', 'the value of "u" is no list of names'),
        ('{"ü": ["a", "b", "c"]}', "is not made of lower case words"),
        ("a, b and c", "it is no JSON"),
    ],
)
def test_every_name_is_in_exactly_one_group(text, told):
    names = ["a", "b", "c"]
    if told is None:
        assert set(read_units(text, names)) == set(names)
    else:
        with pytest.raises(ValueError, match=told):
            read_units(text, names)


def test_many_omitted_names_are_shortened():
    with pytest.raises(ValueError, match=r'it leaves out "n0", "n1", "n10", "n11", "n12" and 15 more'):
        read_units("{}", sorted(f"n{n}" for n in range(20)))


def test_stems():
    assert stems_of("addition_of_fractions") == {"addit", "fracti"}
    assert stems_of("pythagoras_theorem") == stems_of("theorem_pythagorean") == {"pythag", "theore"}
    assert stems_of("to_and_from") == {"to", "and", "from"}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.sampled_from([f"w{n}" for n in range(30)]), min_size=1, max_size=4), max_size=80),
    st.integers(2, 12),
    st.randoms(),
)
def test_batches_hold_each_shared_name_once_in_any_input_order(words, size, draw: random.Random):
    names = list({"_".join(of_name) for of_name in words})
    made = batches(names, size)
    draw.shuffle(names)
    assert batches(names, size) == made
    assert all(1 <= len(batch) <= size for batch in made)
    stems = {name: stems_of(name) for name in names}
    shared = {n for n in names if any(stems[n] & stems[other] for other in names if other != n)}
    assert sorted(name for batch in made for name in batch) == sorted(shared)

"""Merging by an endpoint's model: skills of one stem and meaning become a knowledge unit (paper, MetaKL 3).

Thousands of names do not fit one request. A name is therefore in one request with those that share its rarest stem:
only names with a stem in common are merged. A name that shares none is a unit of its own and costs nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from gdpo.config.endpoint import Endpoint
from gdpo.metakl.ask_skills import json_object, quote, skill_name
from gdpo.metakl.prompts import merge_prompt
from gdpo.metakl.stems import stem, words
from gdpo.models.endpoint import Request, request_all

BATCH = 60  # ours: names a request; a model that must repeat more loses some
NAME_TOKENS = 20  # ours: tokens that a name takes in the reply, in its group and, if alone, as a group's name
MAX_QUOTED = 5  # names that an error quotes
STEM = 6  # ours: letters of a stem that count, so that pythagoras and pythagorean meet
FILLERS = frozenset({"a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"})


def merge_skills(names: list[str], endpoint: Endpoint, journal: Path, extra: dict) -> dict[str, str]:
    """Skill -> knowledge unit, for every one of `names`; the journal's totals go into `extra`.

    Raises UserError as gdpo.models.endpoint.request_all does; the replies until then stay in `journal`.
    """
    batch_of = {f"batch {n}": b for n, b in enumerate(batches(names, _batch_size(endpoint)), start=1)}
    requests = [Request(key, merge_prompt(batch)) for key, batch in batch_of.items()]
    unit_of = {name: name for name in names}
    if requests:
        merged, totals = request_all(
            endpoint, requests, lambda request, text: read_units(text, batch_of[request.key]), journal, "merge"
        )
        extra["endpoint"] = asdict(totals)
        for units in merged.values():
            unit_of |= units
    return unit_of


def read_units(text: str, names: list[str]) -> dict[str, str]:
    """Skill -> unit from a model's reply, every one of `names` once. Raises ValueError with what to tell the model."""
    unit_of: dict[str, str] = {}
    for unit, members in json_object(text).items():
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise ValueError(f"the value of {quote(unit)} is no list of names; expected the names in that group")
        for member in members:
            if member in unit_of:
                raise ValueError(f"{quote(member)} is in it twice; expected each name in exactly one group")
            unit_of[member] = skill_name(unit)
    for problem, wrong in (
        ("it leaves out", [name for name in names if name not in unit_of]),
        ("it adds", sorted(set(unit_of) - set(names))),
    ):
        if wrong:
            more = f" and {len(wrong) - MAX_QUOTED} more" if len(wrong) > MAX_QUOTED else ""
            raise ValueError(f"{problem} {', '.join(quote(name) for name in wrong[:MAX_QUOTED])}{more}")
    for unit in unit_of.values():  # else the two groups would share a name, and be one
        if unit_of.get(unit, unit) != unit:
            raise ValueError(f"{quote(unit)} names a group that it is not in; expected one of that group or a new name")
    return unit_of


def batches(names: Iterable[str], size: int) -> list[list[str]]:
    """`names` that share a stem with another one, in batches of at most `size`; the same ones in any order of `names`.

    Those of one rarest stem are next to each other, ordered by their further stems from rare to common, and in one
    batch where they fit.
    """
    stems = {name: stems_of(name) for name in sorted(set(names))}
    count = Counter(stem for of_name in stems.values() for stem in of_name)
    ranked = {n: sorted((count[stem], stem) for stem in of_name if count[stem] > 1) for n, of_name in stems.items()}
    order = sorted((name for name in stems if ranked[name]), key=lambda name: (ranked[name][0][1], ranked[name], name))
    filled: list[list[str]] = []
    for _, group in groupby(order, key=lambda name: ranked[name][0]):
        block = list(group)
        parts = math.ceil(len(block) / size)
        for part in range(parts):
            piece = block[part * len(block) // parts : (part + 1) * len(block) // parts]
            if filled and len(filled[-1]) + len(piece) <= size:
                filled[-1] += piece
            else:
                filled.append(piece)
    return filled


def stems_of(name: str) -> set[str]:
    """The stems of a name's words, cut to their first letters; fillers count only where there is nothing else."""
    parts = words(name)
    return {stem(word)[:STEM] for word in [word for word in parts if word not in FILLERS] or parts}


def _batch_size(endpoint: Endpoint) -> int:
    fitting = BATCH if endpoint.max_tokens is None else endpoint.max_tokens // NAME_TOKENS
    return max(2, min(BATCH, fitting))

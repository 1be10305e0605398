"""A world's premises as numbers: columns at Origin, levels of rewards, distances of the teachers.

Reads what is finished in results/trial/world-N and says what is missing. Exits with 1 where a column is out of its
bounds for both students: above 97%, or within its chance level. docs/protocol_pilots.md has what pilots gave.
"""

from __future__ import annotations

import argparse
import sys

from gdpo.config.layout import Layout, origin
from gdpo.config.loader import load_scale
from gdpo.core.records import Group, read_records
from gdpo.core.result_files import RunScores, read_stored
from gdpo.report.trial.distance import distances
from gdpo.report.trial.effects import has_room
from gdpo.teach.levels import describe


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
        out = [not has_room(v, entry.chance, entry.items or 1) for v in values]
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="trial")
    parser.add_argument("--world", type=int, required=True)
    given = parser.parse_args()
    layout = Layout(load_scale(given.scale, world=given.world))
    whole = origins(layout)
    rewards(layout)
    print(f"\n{'set':<20}{'nats a token':>14}")
    sets = [name for name in ("metakl-self-s", "metakl", "metakl-foreign") if layout.groups(name).exists()]
    for name, nll in distances(layout, "tiny-s", sets).items():
        print(f"{name:<20}{nll:>14.3f}" if nll is not None else f"{name:<20}{'':>14}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())

"""Each claim of the paper as a test over a scale's results, with a verdict: `gdpo claims`.

The claims are in `workflow/config/claims.yaml`, whose header states the rule. A claim reads only runs of the scale's
tables and studies. Where they have none of its runs, it is not testable, and its note says why.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from gdpo.config.layout import Layout
from gdpo.config.loader import read_yaml
from gdpo.config.scale import Scale
from gdpo.config.yaml_loader import first_problem
from gdpo.core.errors import UserError
from gdpo.core.markdown import table_lines
from gdpo.core.project import CONFIG
from gdpo.report.bootstrap import holm
from gdpo.report.claims import claim_runs, schema
from gdpo.report.claims.claim_runs import NotTestable
from gdpo.report.claims.schema import Claim, Claims
from gdpo.report.claims.verdicts import Finding, Part, Verdict, judge, range_text
from gdpo.report.columns import paper_columns, unavailable_notes

if TYPE_CHECKING:
    from gdpo.report.scores import Scores

PATH = CONFIG / "claims.yaml"
COLUMNS = [
    "id", "source", "statement", "test", "claimed", "effect", "low", "high", "unit", "p", "p_holm", "verdict",
    "published", "per_student", "n", "reading", "note",
]  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A claim with its finding, the p-value adjusted over all claims, and the effect in the paper's printed numbers."""

    id: str
    claim: Claim
    verdict: Verdict
    finding: Finding | None
    published: float | None
    note: str
    p_holm: float | None = None


def load(scale: Scale, path: Path = PATH) -> dict[str, Claim]:
    """The claims by id. Raises UserError with file and key where they do not fit, or where a name is unknown."""
    try:
        claims = Claims.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(path=path, **first_problem(error, Claims)) from None
    claim_runs.check_names(path, claims, scale)
    return claims.root


def inputs(layout: Layout) -> list[Path]:
    """Each file and directory that the claims read: scores, samples, runs, noise, proficiency, training sets."""
    found = [path for claim in load(layout.scale).values() for path in claim_runs.files(layout, claim)]
    return list(dict.fromkeys(found))


def settings(scale: Scale) -> list:
    """What the verdicts and their page depend on besides `inputs`: claims, the rule's text, draws, names."""
    return [load(scale), rule(), scale.bootstrap_draws, scale.bootstrap_seed, scale.student_sets, scale.names]


def results(layout: Layout, claims: dict[str, Claim]) -> list[Result]:
    """Each claim tested on the scale's results, in order; p-values are adjusted over all that have one (Holm)."""
    from gdpo.report.claims import published_effects
    from gdpo.report.published import published
    from gdpo.report.scores import Scores

    scores, rows = Scores(layout), published()
    found = [_result(scores, name, claim, published_effects.effect(claim, rows)) for name, claim in claims.items()]
    tested = {i: result.finding.p for i, result in enumerate(found) if result.finding}
    p_values = {i: p for i, p in tested.items() if p is not None}
    for i, p in zip(p_values, holm(list(p_values.values())), strict=True):
        found[i] = replace(found[i], p_holm=p)
    return found


def _result(scores: Scores, name: str, claim: Claim, published: float | None) -> Result:
    try:
        finding = _find(scores, claim)
    except NotTestable as reason:
        return Result(name, claim, "not testable", None, published, str(reason))
    verdict = judge(finding.low, finding.high, claim.claimed, getattr(claim, "refuted", None))
    note = finding.note or ("one run alone: no interval" if finding.low is None else "")
    return Result(name, claim, verdict, finding, published, note)


def _find(scores: Scores, claim: Claim) -> Finding:
    from gdpo.report.claims import measurement_tests, score_tests

    match claim:
        case schema.Derived():
            return measurement_tests.derived(claim)
        case schema.Correlation():
            return measurement_tests.correlation(scores.layout, claim)
        case schema.Measure():
            return measurement_tests.measure(scores.layout, claim)
        case schema.Difference() | schema.Equivalence():
            return score_tests.difference(scores, claim)
        case schema.Best():
            return score_tests.best(scores, claim)
        case schema.Retained():
            return score_tests.retained(scores, claim)
        case schema.Interaction():
            return score_tests.interaction(scores, claim)
        case schema.Trend():
            return score_tests.trend(scores, claim)


def rows(found: list[Result]) -> list[dict[str, str]]:
    """For claims.csv: one row a claim, numbers with four decimals, empty where there is none."""
    return [_row(result) for result in found]


def _row(result: Result) -> dict[str, str]:
    claim, finding = result.claim, result.finding
    row = dict.fromkeys(COLUMNS, "") | {"id": result.id, "verdict": result.verdict, "note": result.note}
    row |= {"source": claim.source, "statement": claim.statement, "test": claim.test, "reading": claim.reading}
    row |= {"claimed": range_text(claim.claimed), "p_holm": _number(result.p_holm)}
    row["published"] = _number(result.published, 2)
    if finding:
        row |= {key: _number(getattr(finding, key)) for key in ("effect", "low", "high", "p")}
        row |= {"unit": finding.unit, "n": "" if finding.n is None else str(finding.n)}
        row["per_student"] = "; ".join(_part(part) for part in finding.parts)
    return row


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero


def _part(part: Part) -> str:
    spread = "" if part.low is None else f" [{_number(part.low, 2)}, {_number(part.high, 2)}]"
    return f"{part.name} {_number(part.effect, 2)}{spread}"


def markdown(layout: Layout, found: list[Result]) -> str:
    """The page for people: counts of verdicts, the rule, a table, and how each claim became its test."""
    counts = Counter(result.verdict for result in found)
    lines = [
        f"# The paper's claims at scale {layout.scale.name}",
        "",
        "; ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict)) + f"; of {len(found)}.",
        "",
        *rule(),
        *unavailable_notes(layout, paper_columns(layout.scale)),
        "",
    ]
    cells = []
    for result in found:
        row = _row(result)
        finding = result.finding
        spread = "-"
        if finding:
            spread = _number(finding.effect, 2)
            spread += "" if finding.low is None else f" [{_number(finding.low, 2)}, {_number(finding.high, 2)}]"
        claim = [f"**{result.id}** {row['statement']}", row["source"], row["claimed"]]
        cells.append([*claim, spread, row["unit"] or "-", row["published"] or "-", f"**{result.verdict}**"])
    heads = ["claim", "source", "claimed", "effect [interval]", "unit", "published", "verdict"]
    lines += table_lines(heads, cells)
    return "\n".join([*lines, "", *(_details(result) for result in found), ""])


def rule() -> list[str]:
    """The header of claims.yaml, the one place that states the rule."""
    header = []
    for line in PATH.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        header.append(line.removeprefix("#").strip())
    return header


def _details(result: Result) -> str:
    row = _row(result)
    words = [f"- **{result.id}**:"]
    words += [f"{row['reading']}."] if row["reading"] else []
    words += [f"p {row['p']}, adjusted {row['p_holm']}."] if row["p"] else []
    words += [f"{row['per_student']}."] if row["per_student"] else []
    words += [f"{row['note'][0].upper()}{row['note'][1:]}."] if row["note"] else []
    return " ".join(words) if len(words) > 1 else f"{words[0]} as stated."

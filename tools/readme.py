"""`make readme`: the findings and the table of README.md and the picture docs/overview.svg, from the kept results.

`docs/readme.yaml` says which claims and columns are shown. README has each part between two marks, so that new results
change it by one command; `tests/docs/test_readme.py` fails where it is not current.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from gdpo.config.yaml_loader import parsed  # noqa: E402
from gdpo.core.errors import UserError  # noqa: E402
from gdpo.core.files import read_csv, write_text  # noqa: E402
from gdpo.core.markdown import table_lines  # noqa: E402
from gdpo.core.terminal import say  # noqa: E402
from tools.overview import picture  # noqa: E402

README, CONTENT, PICTURE = ROOT / "README.md", ROOT / "docs" / "readme.yaml", ROOT / "docs" / "overview.svg"
WIDTH = 100  # ours: characters of a line
Rows = list[dict[str, str]]


class Kept:
    """The kept results of one scale."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._files: dict[str, Rows] = {}

    def rows(self, name: str) -> Rows:
        """The rows of claims.csv, or of a table."""
        if name not in self._files:
            self._files[name] = read_csv(self.directory / ("claims.csv" if name == "claims" else f"tables/{name}.csv"))
        return self._files[name]

    def row(self, name: str, **labels: str) -> dict[str, str] | None:
        """The row of a file whose columns have these values; None where it has none."""
        return next((row for row in self.rows(name) if labels.items() <= row.items()), None)


def verdicts(kept: Kept) -> str:
    """How many of the paper's claims came to which verdict, as one sentence."""
    counts = Counter(row["verdict"] for row in kept.rows("claims"))
    listed = ", ".join(f"{count} are {verdict}" for verdict, count in counts.most_common())
    return f"Of the paper's {counts.total()} claims, {listed}."


def findings(content: dict[str, Any], kept: Kept) -> str:
    """A list of questions, each with what its claims measure and their verdicts."""
    paragraphs = [_wrapped(verdicts(kept))]
    for finding in content["findings"]:
        parts = [f"{_said(part, kept)}." for part in finding["parts"]]
        paragraphs.append(_wrapped(f"**{finding['question']}** {' '.join(parts)}", first="- ", rest="  "))
    return "\n".join([paragraphs[0], "", *paragraphs[1:]])


def _said(part: dict[str, str], kept: Kept) -> str:
    claim = kept.row("claims", id=part["claim"])
    if claim is None:
        raise UserError(path=CONTENT, key="claim", found=part["claim"], expected="an id of claims.csv")
    digits = 1 if claim["unit"].startswith("points") else 2
    effect, low, high = (f"{float(claim[key]):.{digits}f}" for key in ("effect", "low", "high"))
    shown = effect if low == high else f"{effect} [{low}, {high}]"
    return f"{part['says'].format(effect=shown)} (claimed: {claim['claimed']}): *{claim['verdict']}*"


def table(content: dict[str, Any], kept: Kept) -> str:
    """A row for each training, and for each student the averages that `table` of the content names."""
    labels = [(row["model"], row["row"]) for row in kept.rows("table2")]
    students, trainings = (list(dict.fromkeys(names)) for names in zip(*labels, strict=True))
    titles = [column["title"] for column in content["table"]]
    heads = ["training", *(title for student in students for title in (f"{student}: {titles[0]}", *titles[1:]))]
    rows = [
        [training, *(_cell(column, kept, student, training) for student in students for column in content["table"])]
        for training in trainings
    ]
    return "\n".join(table_lines(heads, rows, labels=1))


def _cell(column: dict[str, Any], kept: Kept, student: str, training: str) -> str:
    row, key = kept.row(column["file"], model=student, row=training), column["column"]
    if row is None:  # the untrained student has not changed
        return "-"
    score, low, high = (float(row[f"{key}{end}"]) for end in ("", "_low", "_high"))
    return f"{score:+.1f} [{low:.1f}, {high:.1f}]" if column.get("interval") else f"{score:.1f}"


def drawing(content: dict[str, Any], kept: Kept) -> str:
    """The picture, with the score before and after of the student and row that the content names."""
    chosen = content["picture"]
    ends = {}
    for end in ("before", "after"):
        row = kept.row(chosen["file"], model=chosen["model"], row=chosen[end])
        if row is None:
            raise UserError(
                path=CONTENT, key=f"picture.{end}", found=chosen[end], expected=f"a row of {chosen['file']}"
            )
        ends[end] = float(row[chosen["column"]])
    return picture(f"{chosen['model']}, average of all columns", **ends)


def filled(page: str, parts: dict[str, str]) -> str:
    """`page` with each part between its marks, <!-- readme:NAME --> and <!-- /readme -->.

    Raises UserError where a mark is missing.
    """
    for name, text in parts.items():
        marks = re.compile(rf"(<!-- readme:{name} -->\n).*?(<!-- /readme -->)", re.DOTALL)
        if not marks.search(page):
            raise UserError(path=README, found="no marks", expected=f"<!-- readme:{name} --> and <!-- /readme -->")
        page = marks.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
    return page


def made() -> tuple[str, str]:
    """README.md and the picture as the kept results have them."""
    content: Any = parsed(CONTENT)
    kept = Kept(ROOT / "results" / "reference" / content["scale"])
    parts = {"findings": findings(content, kept), "table": table(content, kept)}
    return filled(README.read_text(encoding="utf-8"), parts), drawing(content, kept)


def _wrapped(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def main() -> None:
    page, drawn = made()
    write_text(README, page)
    write_text(PICTURE, drawn)
    say(f"readme {README.name}: findings and table; {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"readme: {error}")

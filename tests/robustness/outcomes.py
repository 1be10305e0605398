"""`pytest --outcomes DIR`: what each case of a suite came to, as DIR/SUITE.csv; run as a module it counts them.

A row a case: what was to hold (the test's name, in words), of which case, the outcome, and the sentence told last, by
`record_property("said", ...)` where a command of its own tells it, else by the last UserError that was made. A
rerun writes the same bytes: rows are sorted, and paths of this machine, ports and hashes of archives are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gdpo.core.errors import UserError
from gdpo.core.files import read_csv, write_csv

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "results" / "reference" / "robustness"
PAGE = ROOT / "docs" / "guarantees" / "robustness.md"
COLUMNS = ["holds", "case", "outcome", "said"]
LONGEST = 300  # ours: characters of a sentence that are kept; some quote a whole list of what is known
TITLES = {"malformed": "malformed inputs", "hostile": "hostile cases", "faults": "faults injected", "canary": "keys"}
BEGIN, END = "<!-- counts: `python -m tests.robustness.outcomes` -->", "<!-- end of counts -->"


class Outcomes:
    """The plugin; under xdist the workers fill reports, and the controller writes."""

    def __init__(self, directory: Path, writes: bool):
        self.directory, self.writes = directory, writes
        self.rows: dict[str, dict[str, dict[str, str]]] = {}  # by suite and node id

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        said: list[str] = []

        made = UserError.__init__

        def heard(error: UserError, *arguments: Any, **fields: Any) -> None:
            made(error, *arguments, **fields)
            said.append(str(error))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(UserError, "__init__", heard, raising=False)
            try:
                return (yield)
            finally:
                base = item.config._tmp_path_factory.getbasetemp()
                mark = item.get_closest_marker("outcome")
                last = dict(item.user_properties).get("said", said[-1] if said else "")
                outcome = mark.args[0] if mark else "one sentence" if last else "holds"
                item.user_properties += [("outcome", outcome), ("said", neutral(last, base))]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        path, _, name = report.nodeid.partition("::")
        rows = self.rows.setdefault(Path(path).stem.removeprefix("test_"), {})
        told = dict(report.user_properties)
        if report.when == "call" or not report.passed:
            test, _, case = name.partition("[")
            outcome = told.get("outcome", "holds") if report.passed else report.outcome
            row = {"holds": test.removeprefix("test_").replace("_", " "), "case": case.removesuffix("]")}
            rows[name] = {**row, "outcome": outcome, "said": told.get("said", "")}

    def pytest_sessionfinish(self) -> None:
        for suite, rows in self.rows.items() if self.writes else ():
            write_csv(self.directory / f"{suite}.csv", COLUMNS, [rows[name] for name in sorted(rows)])


def neutral(sentence: str, base: Path) -> str:
    """`sentence` without what differs between machines and calls; `base` holds the tests' own directories."""
    text = re.sub(rf"{re.escape(str(base))}/[^/\s]+/", "", sentence).replace(f"{ROOT}/", "")
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text)
    text = re.sub(r"\.\d+\.partial\b", ".PID.partial", text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def counts(directory: Path = KEPT) -> str:
    """The kept outcomes, counted: a line for each suite and outcome."""
    lines = ["| suite | cases | outcomes |", "|---|---|---|"]
    for path in sorted(directory.glob("*.csv")):
        found = Counter(row["outcome"] for row in read_csv(path, *COLUMNS))
        ordered = sorted(found, key=lambda outcome: (-found[outcome], outcome))
        listed = "; ".join(f"{found[outcome]} {outcome}" for outcome in ordered)
        title = TITLES.get(path.stem, path.stem)
        lines.append(f"| {title} (`{path.stem}.csv`) | {found.total()} | {listed} |")
    return "\n".join(lines)


def filled(page: str, text: str) -> str:
    """`page` with `text` between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), counts()), encoding="utf-8")
    print(counts())

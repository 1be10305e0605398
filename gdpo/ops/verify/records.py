"""The provenance behind a table: every record has to agree with itself, and the table's own with today's scale.

A record that agrees with itself shows only that it was not edited. One that agrees with the scale's files shows that
they would make the same again. Samples are proved by their hashes, where these were recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gdpo.config.layout import Layout, Run
from gdpo.core.errors import UserError
from gdpo.core.files import read_json
from gdpo.core.hashing import fingerprint
from gdpo.core.key_map import current_settings
from gdpo.core.provenance import provenance_below, provenance_path
from gdpo.evaluate import steps as evaluate
from gdpo.evaluate.samples import changed_lines, digest
from gdpo.ops.verify.findings import Findings
from gdpo.ops.verify.target import Target

KEYS = ("step", "result", "config_hash", "settings")


class Records:
    """The provenance records below a scale's directory and beside a table, as far as they can be read."""

    def __init__(self, layout: Layout, runs: list[Run], target: Target, findings: Findings):
        self.layout, self.runs, self.target, self.findings = layout, runs, target, findings
        self.records: dict[Path, dict[str, Any] | None] = {}  # None: it cannot be read

    def check(self) -> None:
        for path in provenance_below(self.layout.root):
            self._record(path)
        for path, settings in self._expected():
            self._same_settings(path, settings)
        for path in self._tables():
            self._same_runs(path)
        for run in self.runs:
            self._samples(run)
            if not run.is_origin:
                self._trained(run)

    def _record(self, path: Path) -> dict[str, Any] | None:
        """A record; None if it cannot be read. The first call notes where it disagrees with itself."""
        if path not in self.records:
            self.records[path] = self._read(path)
        return self.records[path]

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            record = read_json(path)
        except UserError as error:
            self.findings.disagreements.append(error)
            return None
        absent = [key for key in KEYS if key not in record] if isinstance(record, dict) else []
        if absent or not isinstance(record, dict):
            found = f"no {absent[0]}" if absent else type(record).__name__
            self.findings.disagree(path=path, found=found, expected=f"an object with {', '.join(KEYS)}")
            return None
        self.findings.checked["provenance records"] += 1
        if record["step"] == "model" and _is_tuned(record["settings"]):
            self.findings.unproved["hashes of tuned models, which hold what they were tuned on"] += 1
        elif (expected := fingerprint(record["settings"])) != record["config_hash"]:
            expected = f"{expected} of its settings"
            self.findings.disagree(path=path, key="config_hash", found=str(record["config_hash"]), expected=expected)
        if path.is_relative_to(self.layout.root):
            result = Path(str(record["result"]))
            if path not in (result / "provenance.json", result.with_name(f"{result.name}.provenance.json")):
                self.findings.disagree(path=path, key="result", found=result, expected="the result that it is beside")
        return record | {"settings": current_settings(record["settings"])}

    def _tables(self) -> list[Path]:
        return [provenance_path(path) for path in self.target.files if path.suffix == ".csv"]

    def _expected(self) -> Iterator[tuple[Path, Any]]:
        """The records that the table is made from, with the settings that they have by the scale's files."""
        scale, layout = self.layout.scale, self.layout
        table = [scale.tables[self.target.name], scale.bootstrap_draws, scale.bootstrap_seed]
        for path in self._tables():
            yield path, table
        for name, benchmark in scale.benchmarks.items():
            yield provenance_path(layout.benchmark(name, "test")), benchmark
        for student in dict.fromkeys(run.student for run in self.runs):
            tuned = scale.model(student).tuned
            yield layout.model(student) / "provenance.json", None if tuned else scale.model_settings(student)
        for run in self.runs:
            yield provenance_path(layout.score(run, "test")), evaluate.settings(scale, run, "test")
            if not run.is_origin:
                method = scale.method(run.method, run.student, run.trainset)
                yield layout.run(run) / "provenance.json", method

    def _same_settings(self, path: Path, settings: Any) -> None:
        record = self._record(path)
        if record is None or settings is None:
            return
        recorded, current = fingerprint(record["settings"]), fingerprint(settings)
        if recorded != current:
            self.findings.disagree(
                path=path,
                key="settings",
                found=f"those with hash {recorded}",
                expected=f"{current}, as scale '{self.layout.scale.name}' has them now",
                hint="make the result again",
            )

    def _same_runs(self, path: Path) -> None:
        record = self._record(path)
        expected = [str(run) for run in self.layout.selected_runs(self.layout.scale.tables[self.target.name])]
        if record is not None and record.get("runs") != expected:
            self.findings.disagree(path=path, key="runs", found=str(record.get("runs")), expected=str(expected))

    def _samples(self, run: Run) -> None:
        """Compare the samples of a run with the hashes that were taken when it was scored."""
        record_path = provenance_path(self.layout.score(run, "test"))
        hashes = (self._record(record_path) or {}).get("samples")
        if not isinstance(hashes, dict):
            unproved = "runs without recorded hashes of samples: outputs whose verdict is the same may have changed"
            self.findings.unproved[unproved] += 1
            return
        for name, before in hashes.items():
            path = self.layout.samples(run, "test") / f"{name}.jsonl"
            if not path.exists():
                continue  # noted where it is read
            if not (isinstance(before, dict) and all(isinstance(before.get(key), str) for key in ("sha256", "lines"))):
                self.findings.disagree(path=record_path, key=f"samples.{name}", expected="a digest")
                continue
            after = digest(path)
            self.findings.checked["hashes of samples files"] += 1
            if after["sha256"] != before["sha256"]:
                lines = ", ".join(map(str, changed_lines(before, after))) or "a line more or less"
                problem = "changed since it was scored, by its recorded hash"
                self.findings.disagree(problem, path=path, hint=f"lines that differ: {lines}")

    def _trained(self, run: Run) -> None:
        """Compare what a run's log says of its groups, steps and tokens with its record."""
        path = self.layout.run(run) / "train.json"
        record = self._record(self.layout.run(run) / "provenance.json")
        try:
            log = read_json(path)
        except UserError as error:
            self.findings.disagreements.append(error)
            return
        if not isinstance(log, dict):
            self.findings.disagree(path=path, found=type(log).__name__, expected="an object")
            return
        if record is None:
            return
        for key, value in log.items():
            if key not in ("run", "log") and record.get(key) != value:
                expected = f"{record.get(key)} as in its provenance"
                self.findings.disagree(path=path, key=key, found=str(value), expected=expected)


def _is_tuned(settings: Any) -> bool:
    return isinstance(settings, list) and bool(settings) and isinstance(settings[0], dict) and "tuned" in settings[0]

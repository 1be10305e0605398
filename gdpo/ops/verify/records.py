"""The provenance behind a table: every record agrees with itself, those it is made from with the scale of today.

A record that agrees with itself says no more than that nobody edited it; one that agrees with the scale's files says
that they would make the same again. Samples are proved by their hashes, where they were recorded.
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
    """The records below a scale's directory and beside a table, as far as they can be read."""

    def __init__(self, layout: Layout, runs: list[Run], target: Target, findings: Findings):
        self.layout, self.runs, self.target, self.findings = layout, runs, target, findings
        self.read: dict[Path, dict[str, Any] | None] = {}

    def check(self) -> None:
        for path in provenance_below(self.layout.root):
            self._record(path)
        for path, settings in self._expected():
            self._made_of(path, settings)
        for path in self._tables():
            self._shown(path)
        for run in self.runs:
            self._samples(run)
            if not run.is_origin:
                self._trained(run)

    def _wrong(self, sentence: str) -> None:
        self.findings.wrong.append(sentence)

    def _record(self, path: Path) -> dict[str, Any] | None:
        """A record that agrees with itself; None, told once, of one that cannot be read."""
        if path not in self.read:
            self.read[path] = self._opened(path)
        return self.read[path]

    def _opened(self, path: Path) -> dict[str, Any] | None:
        try:
            record = read_json(path)
        except UserError as error:
            self._wrong(str(error))
            return None
        expected_keys = f"{path}: expected an object with {', '.join(KEYS)}"
        if not isinstance(record, dict):
            self._wrong(f"{expected_keys}, found {type(record).__name__}")
            return None
        if absent := [key for key in KEYS if key not in record]:
            self._wrong(f"{expected_keys}, found no {absent[0]}")
            return None
        self.findings.checked["provenance records"] += 1
        if record["step"] == "model" and _is_tuned(record["settings"]):
            self.findings.unseen["hashes of tuned models, which hold what they were tuned on"] += 1
        elif (expected := fingerprint(record["settings"])) != record["config_hash"]:
            self._wrong(f"{path}, config_hash: found {record['config_hash']}, expected {expected} of its settings")
        if path.is_relative_to(self.layout.root):
            made = Path(str(record["result"]))
            if path not in (made / "provenance.json", made.with_name(f"{made.name}.provenance.json")):
                self._wrong(f"{path}, result: found {made}, expected what it lies beside")
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

    def _made_of(self, path: Path, settings: Any) -> None:
        record = self._record(path)
        if record is None or settings is None:
            return
        found, expected = fingerprint(record["settings"]), fingerprint(settings)
        if found != expected:
            known = f"scale '{self.layout.scale.name}' has {expected} now"
            self._wrong(f"{path}, settings: found those with hash {found}, but {known}: make the result again")

    def _shown(self, path: Path) -> None:
        record = self._record(path)
        expected = [str(run) for run in self.layout.selected_runs(self.layout.scale.tables[self.target.name])]
        if record is not None and record.get("runs") != expected:
            self._wrong(f"{path}, runs: found {record.get('runs')}, expected {expected}")

    def _samples(self, run: Run) -> None:
        """The samples of a run with the hashes that were taken when it was scored."""
        record = self._record(provenance_path(self.layout.score(run, "test")))
        recorded = (record or {}).get("samples")
        if not isinstance(recorded, dict):
            unseen = "runs without recorded hashes of samples: outputs whose verdict is the same may have changed"
            self.findings.unseen[unseen] += 1
            return
        for name, before in recorded.items():
            path = self.layout.samples(run, "test") / f"{name}.jsonl"
            if not path.exists():
                continue  # told where it is read
            if not (isinstance(before, dict) and all(isinstance(before.get(key), str) for key in ("sha256", "lines"))):
                self._wrong(f"{provenance_path(self.layout.score(run, 'test'))}, samples.{name}: expected a digest")
                continue
            after = digest(path)
            self.findings.checked["hashes of samples files"] += 1
            if after["sha256"] != before["sha256"]:
                lines = ", ".join(map(str, changed_lines(before, after))) or "a line more or less"
                self._wrong(f"{path}: changed since it was scored, by its recorded hash; lines that differ: {lines}")

    def _trained(self, run: Run) -> None:
        """What a run's log says of its groups, steps and tokens, beside its record."""
        path = self.layout.run(run) / "train.json"
        record = self._record(self.layout.run(run) / "provenance.json")
        try:
            log = read_json(path)
        except UserError as error:
            return self._wrong(str(error))
        if not isinstance(log, dict):
            return self._wrong(f"{path}: expected an object")
        if record is None:
            return
        for key, value in log.items():
            if key not in ("run", "log") and record.get(key) != value:
                self._wrong(f"{path}, {key}: found {value}, expected {record.get(key)} as in its provenance")


def _is_tuned(settings: Any) -> bool:
    return isinstance(settings, list) and bool(settings) and isinstance(settings[0], dict) and "tuned" in settings[0]

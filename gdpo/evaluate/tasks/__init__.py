"""lm-eval's task files, and which of them a run is scored on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gdpo.config.benchmarks import Benchmark

Tasks = Mapping[str, tuple[Benchmark, Path]]  # a benchmark's settings and the file of its items, by its name

"""Where the project's own files are: the package, and the checkout that it stands in where there is one."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PROJECT = PACKAGE.parent
CONFIG = PROJECT / "workflow" / "config"  # scales, tables, studies, sources, claims, figures

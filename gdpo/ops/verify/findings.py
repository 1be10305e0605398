"""What a check of stored results found: what disagrees, what was checked, and what nothing stored can prove."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gdpo.core.errors import UserError

MAX_SHOWN = 200  # ours: disagreements in a report; one lost directory is hundreds of files, and the rest is counted


@dataclass
class Findings:
    """`disagreements`: each with its file, what was found and what was expected. `unproved`: what is taken on trust."""

    disagreements: list[UserError] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    unproved: Counter[str] = field(default_factory=Counter)  # 0 for what is not counted

    def disagree(self, problem: str | None = None, **fields: Any) -> None:
        """Note a disagreement; the arguments are those of UserError."""
        self.disagreements.append(UserError(problem, **fields))

    def text(self, result: str) -> str:
        """The report on `result`, for people."""
        lines = [str(disagreement) for disagreement in self.disagreements[:MAX_SHOWN]]
        if len(self.disagreements) > MAX_SHOWN:
            lines.append(f"and {len(self.disagreements) - MAX_SHOWN:,} more")
        lines.append("checked: " + "; ".join(f"{count:,} {thing}" for thing, count in self.checked.items()))
        if self.unproved:
            things = "; ".join(f"{count:,} {thing}" if count else thing for thing, count in self.unproved.items())
            lines.append(f"not checked, since nothing stored can tell: {things}")
        verdict = f"{len(self.disagreements):,} disagree" if self.disagreements else "everything agrees"
        return "\n".join([*lines, f"verify {result}: {verdict}"])

"""What a check of stored results found: what disagrees, what was checked, and what nothing stored can tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SHOWN = 200  # ours: of what disagrees; one lost directory is hundreds of files, and the rest is counted


@dataclass
class Findings:
    """`wrong`: sentences, each with file, what was found and what was expected. `unseen`: what is taken on trust."""

    wrong: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)  # a counted thing: how many; else 0

    def text(self, what: str) -> str:
        """The report on `what`, for people."""
        lines = [*self.wrong[:SHOWN]]
        if len(self.wrong) > SHOWN:
            lines.append(f"and {len(self.wrong) - SHOWN:,} more")
        lines.append("checked: " + "; ".join(f"{count:,} {thing}" for thing, count in self.checked.items()))
        if self.unseen:
            listed = "; ".join(f"{count:,} {thing}" if count else thing for thing, count in self.unseen.items())
            lines.append(f"not checked, since nothing stored can tell: {listed}")
        verdict = f"{len(self.wrong):,} disagree" if self.wrong else "everything agrees"
        return "\n".join([*lines, f"verify {what}: {verdict}"])

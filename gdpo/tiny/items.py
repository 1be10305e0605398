"""One question of the tiny world, with its gold answer."""

from __future__ import annotations

from dataclasses import dataclass

from gdpo.tiny import lexicon


@dataclass(frozen=True)
class Item:
    """A question with its gold answer; `refuse` where refusing is right (then `answer` is empty)."""

    question: str
    answer: str
    units: tuple[str, ...]
    difficulty: float
    thought: str = ""
    refuse: bool = False

    @property
    def final(self) -> str:
        return lexicon.REFUSAL if self.refuse else self.answer

    @property
    def response(self) -> str:
        return f"{lexicon.THINK} {self.thought} {lexicon.END_THINK} {self.final}" if self.thought else self.final

"""Which benchmark items a training set asks: what may not be trained on, or may not be scored after training.

Texts are compared by `records.normalised`, without the instruction that a source appends to its questions.
"""

from __future__ import annotations

from collections.abc import Iterable

from gdpo.records import Question, chat, normalised


class Asked:
    """A set of question texts, to ask whether a question is among them."""

    def __init__(self, texts: Iterable[str], instructions: Iterable[str] = ()):
        self.endings = sorted({normalised(text) for text in instructions if text}, key=len, reverse=True)
        self.texts = {self._bare(text) for text in texts}

    def __contains__(self, question: Question) -> bool:
        return self._bare(question.question) in self.texts or self._bare(chat(question)[0]["content"]) in self.texts

    def _bare(self, text: str) -> str:
        text = normalised(text)
        return next((text.removesuffix(ending) for ending in self.endings if text.endswith(ending)), text)

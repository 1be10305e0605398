"""What a trained policy changed besides its scores: likelihood of gold answers and of other text, and KL (ours).

Negative log-likelihood of gold answers tells what a model still knows where it answers otherwise. That of text which
no set teaches tells how far it has left its pretraining. KL(reference || policy) along the reference's answers to the
new task's prompts predicts forgetting (Shenfeld et al., RL's Razor, arXiv 2509.04259). KL(policy || reference) along
the policy's own answers is the drift. All of it is exact at every token of an answer, the closing one included;
nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from gdpo.core.records import Question, chat
from gdpo.evaluate.drift import AnsweredConversation, Compared, answer_batches
from gdpo.evaluate.samples import SampleRow, outputs

DIGITS = 5  # of a stored negative log-likelihood, in nats


def gold_answer(question: Question) -> str:
    """The worked response to a question, or else its answer; empty where refusing is right and no response is given."""
    return question.solution or question.answer


class Measures(Compared):
    """The measures of policies against one reference."""

    def measure(
        self,
        policy: Path,
        gold: Mapping[str, Sequence[Question]],
        text: Sequence[Question],
        own: Sequence[AnsweredConversation],
        references: Sequence[AnsweredConversation],
    ) -> dict[str, Any]:
        """The measures of the checkpoint `policy`.

        Args:
            policy: The trained checkpoint.
            gold: Benchmark -> its items.
            text: Questions with responses that no set teaches.
            own: Prompts of the new task with the policy's answers.
            references: The same prompts with the reference's answers.

        Returns:
            `gold`: benchmark -> `nll`, the nats of each item's gold answer, and `tokens`; `text`: the same of `text`;
            `kl`: `reverse` along `own`, `forward` along `references`, nats a token, null where there are none.
        """
        model = self.load(policy)
        reverse, counted_own = self.summed_kl(model, self.reference, own)
        forward, counted_references = self.summed_kl(self.reference, model, references)
        return {
            "gold": {name: self._likelihood(model, questions) for name, questions in gold.items()},
            "text": self._likelihood(model, text),
            "kl": {
                "reverse": reverse / counted_own if counted_own else None,
                "forward": forward / counted_references if counted_references else None,
                "tokens": [counted_own, counted_references],
            },
        }

    @torch.inference_mode()
    def _likelihood(self, model: PreTrainedModel, questions: Sequence[Question]) -> dict[str, list[Any]]:
        """Nats and tokens of each question's gold answer; None and 0 where it has none."""
        answered = [(chat(question), gold_answer(question)) for question in questions]
        places = [place for place, (_, answer) in enumerate(answered) if answer]
        nll: list[float | None] = [None] * len(answered)
        tokens = [0] * len(answered)
        for batch in answer_batches(self.tokenizer, [answered[place] for place in places]):
            logits = model(**batch.inputs(model.device)).logits[:, :-1].float()
            chosen = logits.log_softmax(-1).gather(-1, batch.ids[:, 1:, None].to(model.device))[..., 0].cpu()
            for row, (index, start, end) in enumerate(batch.answers):
                nll[places[index]] = round(-float(chosen[row, start - 1 : end - 1].double().sum()), DIGITS)
                tokens[places[index]] = end - start
        return {"nll": nll, "tokens": tokens}


def answered_items(questions: Sequence[Question], rows: Sequence[SampleRow]) -> list[AnsweredConversation]:
    """Each item's prompt with each of its answers."""
    known = {question.id: chat(question) for question in questions}
    return [(known[row["id"]], text) for row in rows for text in outputs(row)]


def cut_off(tokenizer: Any, rows: Sequence[SampleRow], max_new_tokens: int) -> list[int]:
    """The places of the rows of which an answer has `max_new_tokens` tokens or more: it was cut off, or just ended."""
    return [
        place
        for place, row in enumerate(rows)
        if any(len(tokenizer(t, add_special_tokens=False)["input_ids"]) >= max_new_tokens for t in outputs(row))
    ]

"""The expert: a model tuned on the gold completions of the pool, to teach others (ours; the paper's teacher is large).

The pool is decontaminated before, so that no benchmark item is among what the expert learns from.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from gdpo.config.models import Tuned
from gdpo.core.errors import UserError
from gdpo.core.records import Group, Question, chat, gold_of


def draw(pool: Sequence[Question], tuned: Tuned) -> tuple[list[Group], dict[str, dict[str, int]]]:
    """The groups that an expert learns from, one gold completion each, in the pool's order.

    `tuned.seed` draws `tuned.questions` of the questions with a gold completion, or all where there are fewer. The
    second value counts questions by source: in the `pool`, with `gold`, and `drawn`. Raises UserError where no question
    has a gold completion.
    """
    of_sources = [question for question in pool if question.source in tuned.sources]
    golden = [(question, text) for question in of_sources if (text := gold_of(question))]
    if not golden:
        found = f"no question with a gold solution in {', '.join(tuned.sources)}"
        raise UserError(key="tuned.sources", found=found, expected="some")
    indices = random.Random(tuned.seed).sample(range(len(golden)), min(tuned.questions, len(golden)))
    drawn = [golden[index] for index in sorted(indices)]
    groups = [Group(id=q.id, domain=q.domain, prompt=chat(q), completions=[text], rewards=[1.0]) for q, text in drawn]
    questions_of = {"pool": of_sources, "gold": [q for q, _ in golden], "drawn": [q for q, _ in drawn]}
    counts = {name: Counter(question.source for question in questions) for name, questions in questions_of.items()}
    return groups, {source: {name: counts[name][source] for name in questions_of} for source in tuned.sources}

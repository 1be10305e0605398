"""The expert: a model tuned on the gold completions of the pool, to teach others (ours; the paper's teacher is large).

What it learns from has no benchmark item in it, since the pool is decontaminated before.
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

    `tuned.questions` of those that have one, or all where they are fewer, are drawn by `tuned.seed`. The second value
    counts them by source: of the `pool`, with `gold`, and `drawn`. Raises UserError where there is none.
    """
    of_sources = [question for question in pool if question.source in tuned.sources]
    golden = [(question, text) for question in of_sources if (text := gold_of(question))]
    if not golden:
        raise UserError(
            f"tuned.sources: found no question with a gold solution in {', '.join(tuned.sources)}, expected some"
        )
    places = random.Random(tuned.seed).sample(range(len(golden)), min(tuned.questions, len(golden)))
    drawn = [golden[place] for place in sorted(places)]
    groups = [Group(id=q.id, domain=q.domain, prompt=chat(q), completions=[text], rewards=[1.0]) for q, text in drawn]
    named = {"pool": of_sources, "gold": [q for q, _ in golden], "drawn": [q for q, _ in drawn]}
    counts = {name: Counter(question.source for question in questions) for name, questions in named.items()}
    return groups, {source: {name: counts[name][source] for name in named} for source in tuned.sources}

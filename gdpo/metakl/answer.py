"""A base model's answers to the pool, each with its verdict (paper, MetaKL step 4).

Open answers are generated and graded as everywhere else; a lettered question's choices may be ranked by their
likelihood instead (gdpo.models.choice_likelihood): as the benchmarks of kind `choose` rank them, but for labels such as
yes and no.
"""

from __future__ import annotations

from dataclasses import asdict

from gdpo.config.data import Proficiency
from gdpo.config.layout import Layout
from gdpo.config.models import Model
from gdpo.config.scale import Scale
from gdpo.core.hashing import fingerprint
from gdpo.core.records import LETTERS, Answers, Question, chat
from gdpo.grading.grade import grade_many
from gdpo.models.choice_likelihood import likeliest, log_likelihoods
from gdpo.models.sampling import complete
from gdpo.models.sampling_types import Sampling


def answers(scale: Scale, model: str, questions: list[Question], extra: dict | None = None) -> list[Answers]:
    """The answers to each question, in order.

    Each has `proficiency.samples` outputs, or one, its letter, where the most likely choice is taken. Finished work is
    cached below `Layout.work`, so that a killed call resumes. An endpoint's totals go into `extra`.
    """
    ranked = [question for question in questions if ranks(scale.proficiency, scale.model(model), question)]
    outputs = {q.id: [letter] for q, letter in zip(ranked, _likeliest_letters(scale, model, ranked), strict=True)}
    written = [question for question in questions if question.id not in outputs]
    outputs |= {q.id: texts for q, texts in zip(written, _sample(scale, model, written, extra), strict=True)}
    pairs = [(question, text) for question in questions for text in outputs[question.id]]
    verdicts = iter(grade_many(pairs, show_progress=True))
    rows = []
    for question in questions:
        judged = [next(verdicts) for _ in outputs[question.id]]
        accuracy = judged.count("right") / len(judged)
        rows.append(Answers(id=question.id, outputs=outputs[question.id], verdicts=judged, accuracy=accuracy))
    return rows


def ranks(settings: Proficiency, model: Model, question: Question) -> bool:
    """Whether a question's choices are ranked by likelihood. An endpoint has none, so it writes its answers."""
    lettered = question.grader == "letter" and bool(question.choices)
    return settings.choices == "likelihood" and lettered and model.endpoint is None


def _likeliest_letters(scale: Scale, model: str, questions: list[Question]) -> list[str]:
    """The letter of each question's most likely choice, asked without the list of choices."""
    layout, entry, size = Layout(scale), scale.model(model), scale.proficiency.batch_size
    prompts = [([{"role": "user", "content": q.question}], q.choices) for q in questions]
    cache = layout.work / "answers" / f"{model}-choices-{fingerprint([layout.weights_key(model), size, prompts])}.jsonl"
    likelihoods = log_likelihoods(layout.model(model), entry.dtype, prompts, size, cache)
    return [LETTERS[choice] for choice in likeliest(likelihoods, [q.choices for q in questions])]


def _sample(scale: Scale, model: str, questions: list[Question], extra: dict | None) -> list[list[str]]:
    """Each question's completions."""
    layout, entry, settings = Layout(scale), scale.model(model), scale.proficiency
    sampling = Sampling(
        settings.samples,
        settings.temperature,
        settings.top_p if settings.temperature else 1.0,
        settings.max_new_tokens,
        settings.batch_size,
        settings.seed if settings.temperature else 0,
    )
    conversations = [chat(question) for question in questions]
    if entry.endpoint:
        cache = layout.endpoint(model)
    else:
        depends = [layout.weights_key(model), asdict(sampling), conversations]
        cache = layout.work / "answers" / f"{model}-{fingerprint(depends)}.jsonl"
    return complete(entry, layout.model(model), conversations, sampling, cache, extra)

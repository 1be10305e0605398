"""How a training set was made: a sentence or two for each step, from its settings, for the data card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gdpo.config.models import TrainSet
from gdpo.config.scale import Scale
from gdpo.core.markdown import cell, escape, join_names


def sentences(scale: Scale, trainset: str, agreement: Sequence[Mapping[str, str]]) -> list[str]:
    """A sentence or two for each step from the sources to the selection."""
    return [
        _sources(scale),
        _decontaminate(scale),
        _annotate(scale),
        _merge(scale, agreement),
        _proficiency(scale),
        f"**Selection.** {selection(scale, scale.trainset(trainset))}",
    ]


def _sources(scale: Scale) -> str:
    if scale.world:
        return (
            f"**Sources.** Questions of a made-up world of {len(scale.world.skills)} skills, seed {scale.world.seed}."
        )
    named = [source for source in scale.sources.values() if source.pool]
    cut = sum(source.rows is not None for source in named)
    first = f"; of {cut} of them the first so many questions" if cut else ""
    return (
        f"**Sources.** {len(named)} public data sets{first}. Rows without a question or an answer that can be checked "
        "are left out, and of equal questions the first is kept."
    )


def _decontaminate(scale: Scale) -> str:
    benchmarks = join_names([escape(benchmark.display) for benchmark in scale.benchmarks.values()])
    names = scale.decontaminate.protect
    sources = f", and the sources {join_names([f'`{name}`' for name in names])}" if names else ""
    settings = scale.decontaminate
    shared = (
        ", and near duplicates, whose own words, those outside boilerplate, are shared by "
        f"{settings.overlap:.0%} of their weight ({settings.overlap_with_numbers:.0%} with {settings.numbers} "
        "numbers in common), and which have the same numbers"
        if settings.ngram
        else ""
    )
    return (
        f"**Decontamination.** What a benchmark asks is left out: the same text, normalised{shared}. "
        f"Guarded: {benchmarks}{sources}."
    )


def _annotate(scale: Scale) -> str:
    settings = scale.annotate
    if settings.backend == "openai":
        named = f"Skills are named by {escape(settings.needed_endpoint.model)}, asked at an endpoint by our prompts."
        if settings.fallback == "taxonomy":
            named += " Questions to which it gave no fitting reply have those of a taxonomy."
    elif settings.backend == "taxonomy":
        matching = settings.taxonomy
        own = " What a source says of its own row is among them." if matching.topics else ""
        file = f" {escape(matching.file)}" if matching.file else " of this project"
        named = (
            f"Skills are the {matching.min_skills} to {matching.max_skills} of a taxonomy{file} that lie nearest to "
            f"the question by sentence embeddings (`{scale.needed_encoder.reference}`), within "
            f"{matching.margin:g} of the best cosine.{own}"
        )
    else:
        named = "Skills are what the source says of its own questions."
    return f"**Annotation.** {named} The paper asks GPT-4o."


def _merge(scale: Scale, agreement: Sequence[Mapping[str, str]]) -> str:
    settings = scale.merge
    if settings.backend == "openai":
        said = (
            f"{escape(settings.needed_endpoint.model)}, asked at an endpoint by our prompt, merges skills into units."
        )
    elif settings.backend == "embedding":
        said = (
            "Skills of equal word stems are one unit, and so are those in a cluster of average cosine of at least "
            f"{settings.threshold:g} by sentence embeddings (`{scale.needed_encoder.reference}`)."
        )
    else:
        said = "Skills are not merged: each is a unit."
    told = [
        f"The backends `{row['first']}` ({cell(int(row['first_units']))} units) and `{row['second']}` "
        f"({cell(int(row['second_units']))} units) have an adjusted Rand index of {float(row['adjusted_rand']):.3f}."
        for row in agreement
    ]
    return " ".join([f"**Units.** {said} The paper asks GPT-4o.", *told])


def _proficiency(scale: Scale) -> str:
    settings = scale.proficiency
    models = join_names([escape(scale.model(name).display) for name in settings.models])
    if settings.questions is None:
        asked = "every question"
    elif isinstance(settings.questions, dict):
        asked = join_names([f"{cell(n)} {domain}" for domain, n in settings.questions.items()]) + " questions"
    else:
        asked = f"{cell(settings.questions)} questions"
    greedy = settings.temperature == 0
    way = "once, greedily" if greedy else f"{settings.samples} times each at temperature {settings.temperature:g}"
    likely = "; of choices the likeliest is taken" if settings.choices == "likelihood" else ""
    unmeasured = "take the mean of their units" if scale.selection.unmeasured == "estimate" else "are not selected"
    rest = "" if settings.questions is None else f" Questions that were not asked {unmeasured}."
    return f"**Proficiency.** Asked {asked}, {way}{likely}: {models}.{rest}"


def selection(scale: Scale, trainset: TrainSet) -> str:
    """What one training set takes from the pool."""
    parts = join_names([escape(scale.trainset(name).display) for name in trainset.parts])
    settings = scale.selection
    said = {
        "metakl": (
            f"Algorithm 1 of the paper: every question of {settings.keep_units} units or more, about "
            f"{settings.replay_per_unit} questions a unit that the models answer already, then the questions with most "
            f"units below their share, harder ones first, up to {cell(trainset.size)} questions."
        ),
        "hardest": f"The {cell(trainset.size)} hardest questions, by what their source says of their difficulty.",
        "domain": f"{cell(trainset.size)} questions, in a fixed order that looks random.",
        "union": f"Equal parts of {parts}, {cell(trainset.size)} questions in all.",
        "random": f"{cell(trainset.size)} questions, each as likely as any other.",
        "stratified": f"{cell(trainset.size)} questions, as many of each domain, each as likely as any other there.",
        "joined": f"All of {parts}.",
        "renoted": f"The questions of {parts}, answered in another notation.",
        "pretraining": f"{cell(trainset.size)} examples of the pretraining mix {trainset.mix}.",
        "part": f"Of {parts}, at most {cell(trainset.size)} questions, in a fixed order that looks random.",
    }[trainset.select]
    only = f" Of the domain {trainset.domain} alone." if trainset.domain else ""
    named = f" Drawn from {join_names([f'`{name}`' for name in trainset.sources])} alone." if trainset.sources else ""
    return said + only + named

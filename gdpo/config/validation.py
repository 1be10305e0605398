"""What the entries of a scale must be to each other: the names that they use exist, and no two contradict.

Each check raises InvalidSetting, which names the key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from gdpo.config.strict import InvalidSetting
from gdpo.core.errors import suggest

if TYPE_CHECKING:
    from gdpo.config.scale import Scale

Uses = tuple[str, Sequence[str], Collection[str]]  # a key, the names that it uses, and the names that there are


def check(scale: Scale) -> None:
    """Raises InvalidSetting at the first check that a scale does not pass."""
    for one in (
        _one_origin, _references, _weights, _keeps_what_validation_needs, _tuned_once, _one_gpu_a_process, _parts_end,
        _made_up, _listed_once, _rows_once, _encoder, _trial,
    ):  # fmt: skip
        one(scale)


def _one_origin(scale: Scale) -> None:
    """Questions come either from a made-up world or from sources, and only a world's models are pretrained here."""
    if (scale.world is None) == (not scale.sources):
        raise InvalidSetting(expected="exactly one of 'world' and 'sources'")
    if scale.world is None and (made := [n for n, model in scale.models.items() if model.pretrain]):
        raise InvalidSetting(
            key=f"models.{made[0]}.pretrain", found="no 'world' to learn", expected="a model by 'reference'"
        )


def _references(scale: Scale) -> None:
    """Every name that an entry uses is that of an entry."""
    for key, names, known in _uses(scale):
        if unknown := [name for name in names if name not in known]:
            raise InvalidSetting(key=key, found=f"'{unknown[0]}'", hint=suggest(unknown[0], known))


def _uses(scale: Scale) -> Iterator[Uses]:
    models = scale.models
    origins = scale.world.skills if scale.world else scale.sources
    mixes = scale.world.popularity if scale.world else {}
    yield "students", scale.students, models
    yield "proficiency.models", scale.proficiency.models, models
    yield "respond.teacher", [scale.respond.teacher], models
    for name, model in models.items():
        if model.pretrain:
            yield f"models.{name}.pretrain.mix", [model.pretrain.mix], mixes
    for name, model in models.items():
        if model.tuned:
            yield f"models.{name}.tuned.base", [model.tuned.base], models
    for name, model in models.items():
        if model.tuned:
            yield f"models.{name}.tuned.sources", model.tuned.sources, origins
    for name, benchmark in scale.benchmarks.items():
        yield f"benchmarks.{name}.source", [benchmark.source], origins
    for name, trainset in scale.trainsets.items():
        yield f"trainsets.{name}.parts", trainset.parts, scale.trainsets
    for name, trainset in scale.trainsets.items():
        if trainset.mix:
            yield f"trainsets.{name}.mix", [trainset.mix], mixes
    for name in scale.trainsets:
        yield f"trainsets.{name}.respond.teacher", [scale.respond_of(name).teacher], models
    for name, students in scale.student_sets.items():
        yield f"student_sets.{name}", students, models
    for key, selection in scale.selections.items():
        yield f"{key}.students", [selection.students], {"main", *scale.student_sets}
    for name, trainset in scale.trainsets.items():
        yield f"trainsets.{name}.sources", trainset.sources, origins
    yield "decontaminate.protect", scale.decontaminate.protect, origins
    for name, figure in scale.figures.items():
        known: dict[str, Collection[str]] = {
            "table": scale.tables, "study": scale.studies, "trainset": scale.trainsets,
        }  # fmt: skip
        for key, entries in known.items():
            yield f"figures.{name}.{key}", [getattr(figure, key)] if hasattr(figure, key) else [], entries
    yield "sweep.rates_of", list(scale.sweep.rates_of), scale.methods
    if scale.trial:
        yield "trial.student", [scale.trial.student], models
        yield "trial.fixed_rates", list(scale.trial.fixed_rates), scale.methods
    for key, cell in scale.cells():
        yield f"{key}.trainset", [cell.trainset], {"none", *scale.trainsets}
        yield f"{key}.method", [cell.method], {"origin", *scale.methods}
        yield f"{key}.model", [cell.model] if cell.model else [], models


def _weights(scale: Scale) -> None:
    """What is trained has weights here, which a model at an endpoint has not."""
    trained = {"students": scale.students} | {f"student_sets.{n}": names for n, names in scale.student_sets.items()}
    trained |= {f"{key}.model": [cell.model] for key, cell in scale.cells() if cell.model}
    trained |= {f"models.{n}.tuned.base": [model.tuned.base] for n, model in scale.models.items() if model.tuned}
    for key, names in trained.items():
        for name in names:
            if scale.models[name].endpoint:
                raise InvalidSetting(
                    key=key, found=f"'{name}', which is at an endpoint", expected="a model with weights"
                )


def _keeps_what_validation_needs(scale: Scale) -> None:
    if not scale.keep_weights and any(benchmark.validation_items for benchmark in scale.benchmarks.values()):
        raise InvalidSetting(
            key="keep_weights", found="false beside validation items, for which weights are needed", expected="true"
        )


def _tuned_once(scale: Scale) -> None:
    for name, model in scale.models.items():
        if model.tuned and scale.models[model.tuned.base].tuned:
            base = model.tuned.base
            raise InvalidSetting(
                key=f"models.{name}.tuned.base", found=f"'{base}', itself tuned here", expected="another"
            )


def _one_gpu_a_process(scale: Scale) -> None:
    train = scale.needs.get("train")
    if train and train.gpus and train.gpus != scale.launch.processes:
        found = f"{train.gpus} beside launch.processes: {scale.launch.processes}"
        raise InvalidSetting(key="needs.train.gpus", found=found, expected="one GPU a process")


def _parts_end(scale: Scale) -> None:
    """No training set is a part of itself, or of one of its parts."""
    for name, trainset in scale.trainsets.items():
        below, seen = list(trainset.parts), set()
        while below:
            part = below.pop()
            if part == name:
                raise InvalidSetting(
                    key=f"trainsets.{name}.parts", found="a loop", expected=f"parts that do not have '{name}'"
                )
            below += [] if part in seen else scale.trainsets[part].parts
            seen.add(part)


def _made_up(scale: Scale) -> None:
    """Only a made-up world has a notation and pretraining examples."""
    for name, trainset in scale.trainsets.items():
        if scale.world is None and trainset.select in ("renoted", "pretraining"):
            raise InvalidSetting(
                key=f"trainsets.{name}.select", found=trainset.select, expected="a scale with a 'world'"
            )


def _listed_once(scale: Scale) -> None:
    listed = (("students", scale.students), ("seeds", scale.seeds), ("sweep.seeds", scale.sweep.seeds))
    for key, entries in listed:
        if twice := [entry for i, entry in enumerate(entries) if entry in entries[:i]]:
            raise InvalidSetting(key=key, found=f"{twice[0]!r} a second time", expected="each once")


def _rows_once(scale: Scale) -> None:
    """Tables and figures tell rows apart by their titles."""
    for key, selection in scale.selections.items():
        titles = [cell.row for cell in selection.rows]
        for number, title in enumerate(titles):
            if title in titles[:number]:
                expected = "each title once"
                raise InvalidSetting(
                    key=f"{key}.rows.{number}.row", found=f"'{title}' a second time", expected=expected
                )


def _encoder(scale: Scale) -> None:
    """Embeddings and the taxonomy need a sentence encoder."""
    if scale.encoder is not None:
        return
    if "embedding" in (scale.merge.backend, *scale.merge.compare):
        raise InvalidSetting("backend embedding needs an 'encoder'", key="merge")
    if scale.annotate.backend == "taxonomy":
        raise InvalidSetting("backend taxonomy needs an 'encoder'", key="annotate")
    if scale.annotate.fallback == "taxonomy":
        raise InvalidSetting("fallback taxonomy needs an 'encoder'", key="annotate")


def _trial(scale: Scale) -> None:
    """A trial runs in worlds, by methods with a grid, and each rate of its rules was run."""
    if scale.trial is None:
        return
    if scale.worlds is None:
        raise InvalidSetting(key="trial", found="a scale without 'worlds'", expected="one that has them")
    for key, cell in scale.cells():
        if key.startswith("trial.") and (cell.method == "origin" or cell.model):
            raise InvalidSetting(key=f"{key}.method", found=cell.method, expected="a method that trains")
    for method, rate in scale.trial.fixed_rates.items():
        if rate not in (grid := scale.sweep.rates(method)):
            raise InvalidSetting(
                key=f"trial.fixed_rates.{method}",
                found=f"{rate:g}",
                expected=f"one of {', '.join(f'{r:g}' for r in grid)}",
            )

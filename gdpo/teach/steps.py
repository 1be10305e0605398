"""`gdpo teach ...`: the teacher's responses to a training set, and their rewards, as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.layout import Layout
from gdpo.config.models import Respond, Reward
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError, first_line
from gdpo.core.hashing import fingerprint
from gdpo.core.provenance import recorded
from gdpo.core.records import Domain, Group, Parts, Question, Responses, chat, gold_of, read_records, write_records
from gdpo.core.terminal import say

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def respond(scale: Scale, trainset: str) -> None:
    """Let the teacher sample each question's group; a gold completion comes first where `include_gold` is set."""
    from gdpo.models.sampling import complete
    from gdpo.models.sampling_types import Sampling

    layout, settings = Layout(scale), scale.respond_of(trainset)
    teacher = scale.model(settings.teacher)
    with recorded(layout.responses(trainset), "respond", settings, {"respond": settings.seed}) as extra:
        questions = read_records(layout.trainset(trainset), Question)
        gold = [[text] if settings.include_gold and (text := gold_of(q)) else [] for q in questions]
        samples = settings.group_size - int(settings.include_gold)
        sampling = Sampling(
            samples,
            settings.temperature,
            settings.top_p,
            settings.max_new_tokens,
            settings.batch_size,
            settings.seed,
        )
        conversations = [chat(q) for q in questions]
        completions = complete(
            teacher,
            layout.model(settings.teacher),
            conversations,
            sampling,
            _cache(layout, trainset, settings, conversations),
            extra,
        )
        rows = zip(questions, gold, completions, strict=True)
        write_records(
            layout.responses(trainset),
            (Responses(id=q.id, model=settings.teacher, completions=g + c, gold=len(g)) for q, g, c in rows),
        )
        extra["gold"] = sum(map(len, gold))
    golden = f", {extra['gold']} of them led by a gold one" if settings.include_gold else ""
    say(f"respond {trainset}: up to {settings.group_size} completions to each of {len(questions)} questions{golden}")


def _cache(layout: Layout, trainset: str, settings: Respond, conversations: list[list[dict[str, str]]]) -> Path:
    """The file of finished completions: for a local teacher, named by everything that its completions depend on.

    A teacher at an endpoint has one request log for all training sets, so that no request is paid for twice. Address,
    key, budget and pace change no answer.
    """
    teacher = layout.scale.model(settings.teacher)
    if teacher.endpoint is not None:
        return layout.endpoint(settings.teacher)
    depends = [layout.weights_key(settings.teacher), settings.model_dump(), conversations]
    return layout.work / "responses" / f"{trainset}-{fingerprint(depends)}.jsonl"


def import_groups(scale: Scale, trainset: str, mirror: Path | None) -> None:
    """Write a training set's groups from the files that its entry names, as given or below the mirror.

    Groups that repeat a held-out item are dropped. With `contaminated: keep` they are kept, and benchmarks whose scored
    items they repeat have no column. Either is reported and recorded.
    """
    from gdpo.metakl.contamination import ItemIndex, read_heldout_items, user_texts
    from gdpo.teach import imports

    layout, settings = Layout(scale), scale.trainset(trainset)
    if settings.select != "import":
        raise UserError(key=f"trainsets.{trainset}.select", found=f"'{settings.select}'", expected="'import'")
    assert settings.domain is not None  # gdpo.config.models.TrainSet: select: import has one
    tokenizer = _tokenizer(layout)
    with recorded(layout.groups(trainset), "import", [settings, scale.reward, scale.decontaminate]) as extra:
        paths = [_locate(path, mirror) for path in settings.paths]
        appended = settings.instruction
        if not isinstance(appended, str):
            appended = instruction(scale, settings.domain) if appended else ""
        read = imports.read_imported(paths, settings.fields, appended)
        if settings.contaminated == "keep":
            read = read[: settings.size]
            items = {name: read_records(layout.benchmark(name, "test"), Question) for name in scale.benchmarks}
        else:
            items = read_heldout_items(layout.heldout_items)
        texts = (text for group in read for text in user_texts(group.prompt))
        contaminated = imports.contaminating_benchmarks(read, ItemIndex.from_scale(scale, items, texts))
        repeated = Counter(name for names in contaminated.values() for name in names)
        kept = read if settings.contaminated == "keep" else [group for group in read if group.id not in contaminated]
        if not kept:
            raise UserError(
                f"all {len(read)} groups ask items of {', '.join(repeated)}",
                key=f"trainsets.{trainset}",
                expected="some that ask none",
                hint="'contaminated: keep' trains on them and leaves the columns of those benchmarks empty",
            )
        groups = imports.to_groups(
            kept[: settings.size],
            settings,
            lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
            scale.reward,
        )
        write_records(layout.groups(trainset), groups)
        extra |= {"read": len(read), "contaminated": settings.contaminated, "asked": dict(repeated)} | _shares(groups)
    for name, count in repeated.items():
        fate = "kept, so its column stays empty" if settings.contaminated == "keep" else "dropped"
        say(f"import {trainset}: {count} of {len(read)} groups ask items of {name}: {fate}")
    right = f", {extra['right']:.1%} right" if "right" in extra else ""
    say(
        f"import {trainset}: {len(groups)} groups, {sum(len(g.completions) for g in groups)} completions{right}, "
        f"{extra['groups_without_signal']} groups without signal"
    )


def _tokenizer(layout: Layout) -> Tokenizer:
    """The first student's tokenizer, in whose tokens rewards count lengths."""
    from tokenizers import Tokenizer

    path = layout.model(layout.scale.students[0]) / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        raise UserError(path=path, found=f"'{first_line(error)}'", expected="a tokenizer") from None


def _locate(path: str, mirror: Path | None) -> Path:
    given = Path(path)
    return given if mirror is None or given.exists() else mirror / path


def instruction(scale: Scale, domain: Domain) -> str:
    """The instruction that is appended to an imported question: the most frequent one of the domain's benchmarks.

    Without a benchmark of the domain, the most frequent one of its sources.
    """
    names = [scale.benchmark(name).source for name in scale.domain_benchmarks(domain)]
    sources = [scale.sources[name] for name in names if name in scale.sources]
    sources = sources or [source for source in scale.sources.values() if source.domain == domain]
    return Counter(source.instruction for source in sources).most_common(1)[0][0] if sources else ""


def part(scale: Scale, trainset: str) -> None:
    """Write the groups of a set that asks no teacher: other sets' groups, as they are or renoted, or gold responses."""
    layout, settings = Layout(scale), scale.trainset(trainset)
    if not settings.derived:
        expected = "'part', 'renoted', 'joined' or 'pretraining'"
        raise UserError(key=f"trainsets.{trainset}.select", found=f"'{settings.select}'", expected=expected)
    with recorded(layout.groups(trainset), "part", settings) as extra:
        questions = read_records(layout.trainset(trainset), Question)
        if settings.select == "pretraining":
            groups = [_gold_group(question) for question in questions]
        else:
            groups = _groups_of_parts(layout, settings.parts, questions)
        if settings.reward:
            scored = _rewarded(layout, questions, groups, settings.reward)
            groups = [_with_parts(group, parts) for group, parts in zip(groups, scored, strict=True)]
        if settings.select == "renoted":
            from gdpo.teach.notation import renoted

            assert scale.world is not None  # gdpo.config.validation: only a world's sets are renoted
            groups = renoted(groups, scale.world, settings.notation)
        write_records(layout.groups(trainset), groups)
        extra |= _shares(groups)
    of = f" of {','.join(settings.parts)}" if settings.parts else ""
    say(f"part {trainset}: {len(groups)} groups{of}")


def _groups_of_parts(layout: Layout, parts: list[str], questions: list[Question]) -> list[Group]:
    """The groups of `questions`, each from the first of the sets `parts` that has one."""
    groups: dict[str, Group] = {}
    for whole in reversed(parts):
        groups |= {group.id: group for group in read_records(layout.groups(whole), Group)}
    if missing := [question.id for question in questions if question.id not in groups]:
        raise UserError(
            path=layout.groups(parts[0]),
            found=f"no group of {missing[0]}",
            expected="one",
            hint="run `gdpo teach reward` again",
        )
    return [groups[question.id] for question in questions]


def _gold_group(question: Question) -> Group:
    text = gold_of(question)
    assert text is not None  # a pretraining example has its response
    return Group(id=question.id, domain=question.domain, prompt=chat(question), completions=[text], rewards=[1.0])


def _with_parts(group: Group, parts: list[Parts]) -> Group:
    return group.model_copy(update={"parts": parts, "rewards": [part.total for part in parts]})


def _rewarded(
    layout: Layout, questions: list[Question], groups: Sequence[Group | Responses], settings: Reward
) -> list[list[Parts]]:
    """The graded rewards of each of `groups`, the answers to `questions`, in their order."""
    from gdpo.grading.grade import grade_many
    from gdpo.teach.reward import reward as reward_parts

    pairs = [(q, text) for q, group in zip(questions, groups, strict=True) for text in group.completions]
    verdicts = grade_many(pairs, show_progress=True)
    lengths = [len(e.ids) for e in _tokenizer(layout).encode_batch([t for _, t in pairs], add_special_tokens=False)]
    scored = (
        reward_parts(v, text, n, settings, q.solution) for (q, text), v, n in zip(pairs, verdicts, lengths, strict=True)
    )
    return [list(islice(scored, len(group.completions))) for group in groups]


def reward(scale: Scale, trainset: str) -> None:
    """Grade every response and write the groups that students train on."""
    layout = Layout(scale)
    with recorded(layout.groups(trainset), "reward", scale.reward) as extra:
        questions = read_records(layout.trainset(trainset), Question)
        responses = read_records(layout.responses(trainset), Responses)
        if [question.id for question in questions] != [response.id for response in responses]:
            raise UserError(
                path=layout.responses(trainset),
                found="others",
                expected=f"responses to the questions of {layout.trainset(trainset)}, in their order",
                hint="run `gdpo teach respond` again",
            )
        scored = _rewarded(layout, questions, responses, scale.reward)
        groups = [
            Group(
                id=question.id, domain=question.domain, prompt=chat(question), completions=response.completions,
                rewards=[part.total for part in parts], parts=parts,
            )
            for question, response, parts in zip(questions, responses, scored, strict=True)
        ]  # fmt: skip
        write_records(layout.groups(trainset), groups)
        extra |= _shares(groups)
    say(
        f"reward {trainset}: {extra['right']:.1%} of {sum(map(len, scored))} completions right, "
        f"{extra['groups_without_signal']} of {len(groups)} groups without signal"
    )


def _shares(groups: list[Group]) -> dict[str, float]:
    """The shares of verdicts, where there are any, and how many groups have equal rewards and so no signal."""
    verdicts = [part.verdict for group in groups for part in group.parts]
    shares = {name: verdicts.count(name) / len(verdicts) for name in ("right", "ungradable")} if verdicts else {}
    return {**shares, "groups_without_signal": sum(len(set(group.rewards)) == 1 for group in groups)}

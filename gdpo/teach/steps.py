"""`gdpo teach ...`: the teacher's responses to a training set, and their rewards, as files."""

from __future__ import annotations

from pathlib import Path

from gdpo.config import Scale, fingerprint
from gdpo.console import say
from gdpo.errors import UserError
from gdpo.layout import Layout
from gdpo.provenance import recorded
from gdpo.records import Group, Question, Responses, chat, read_records, write_records


def respond(scale: Scale, trainset: str) -> None:
    """Let the teacher sample each question's group; the gold solution comes first where the scale asks for it."""
    from gdpo.generate import Sampling, complete_all

    layout, settings = Layout(scale), scale.respond_of(trainset)
    teacher = scale.model(settings.teacher)
    with recorded(layout.responses(trainset), "respond", settings, {"respond": settings.seed}):
        questions = read_records(layout.trainset(trainset), Question)
        gold = [[q.solution] if settings.gold and q.solution else [] for q in questions]
        samples = settings.group_size - int(settings.gold)
        sampling = Sampling(
            samples,
            settings.temperature,
            settings.top_p,
            settings.max_new_tokens,
            settings.batch_size,
            settings.seed,
        )
        key = fingerprint([teacher.model_dump(), settings.model_dump(), [chat(q) for q in questions]])
        completions = complete_all(
            layout.model(settings.teacher), teacher.dtype, [chat(q) for q in questions], sampling,
            layout.work / "responses" / f"{trainset}-{key}.jsonl",
        )  # fmt: skip
        rows = zip(questions, gold, completions, strict=True)
        write_records(
            layout.responses(trainset),
            (Responses(id=q.id, model=settings.teacher, completions=g + c, gold=len(g)) for q, g, c in rows),
        )
    say(f"respond {trainset}: {settings.group_size} completions to each of {len(questions)} questions")


def import_groups(scale: Scale, trainset: str, mirror: Path | None) -> None:
    """Write a training set's groups from the file that its entry names, found as it stands or in the mirror."""
    from tokenizers import Tokenizer

    from gdpo.teach.imports import read_groups_file

    layout, settings = Layout(scale), scale.trainset(trainset)
    if settings.path is None:
        raise UserError(f"trainsets.{trainset}.select: found '{settings.select}', expected 'import'")
    path = Path(settings.path)
    if mirror is not None and not path.exists():
        path = mirror / settings.path
    instructions = {s.instruction for s in scale.sources.values() if s.domain == settings.domain and s.instruction}
    tokenizer = Tokenizer.from_file(str(layout.model(scale.students[0]) / "tokenizer.json"))
    with recorded(layout.groups(trainset), "import", [settings, scale.reward]):
        groups = read_groups_file(
            path,
            settings,
            lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
            scale.reward,
            min(instructions, default=""),
        )[: settings.size]
        write_records(layout.groups(trainset), groups)
    say(f"import {trainset}: {len(groups)} groups from {path}")


def part(scale: Scale, trainset: str) -> None:
    """Write a part's groups: those that the whole set's questions have, so that a part costs no response."""
    layout = Layout(scale)
    whole = scale.trainset(trainset).parts[0]
    with recorded(layout.groups(trainset), "part", scale.trainset(trainset)):
        found = {group.id: group for group in read_records(layout.groups(whole), Group)}
        questions = read_records(layout.trainset(trainset), Question)
        write_records(layout.groups(trainset), (found[question.id] for question in questions))
    say(f"part {trainset}: {len(questions)} of {len(found)} groups of {whole}")


def reward(scale: Scale, trainset: str) -> None:
    """Grade every response and write the groups that students train on."""
    from tokenizers import Tokenizer

    from gdpo.grading import grade_many
    from gdpo.teach.reward import reward as reward_parts

    layout = Layout(scale)
    with recorded(layout.groups(trainset), "reward", scale.reward) as extra:
        questions = read_records(layout.trainset(trainset), Question)
        responses = read_records(layout.responses(trainset), Responses)
        tokenizer = Tokenizer.from_file(str(layout.model(scale.students[0]) / "tokenizer.json"))
        pairs = [(q, text) for q, r in zip(questions, responses, strict=True) for text in r.completions]
        verdicts = grade_many(pairs)
        texts = [text for _, text in pairs]
        lengths = [len(e.ids) for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
        scored = [
            reward_parts(v, text, n, scale.reward) for (_, text), v, n in zip(pairs, verdicts, lengths, strict=True)
        ]
        groups, start = [], 0
        for question, response in zip(questions, responses, strict=True):
            parts = scored[start : start + len(response.completions)]
            start += len(response.completions)
            groups.append(
                Group(
                    id=question.id, domain=question.domain, prompt=chat(question), completions=response.completions,
                    rewards=[part.total for part in parts], parts=parts,
                )
            )  # fmt: skip
        write_records(layout.groups(trainset), groups)
        extra["right"] = sum(v == "right" for v in verdicts) / len(verdicts)
        extra["ungradable"] = sum(v == "ungradable" for v in verdicts) / len(verdicts)
        extra["groups_without_signal"] = sum(len(set(group.rewards)) == 1 for group in groups)
    say(
        f"reward {trainset}: {extra['right']:.1%} of {len(verdicts)} completions right, "
        f"{extra['groups_without_signal']} of {len(groups)} groups without signal"
    )

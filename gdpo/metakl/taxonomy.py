"""Annotation without a language model: the skills of a taxonomy that are nearest to a question (paper, MetaKL step 2).

The paper asks GPT-4o to name skills. Here each skill of data/taxonomy.yaml has a gloss, and sentence embeddings find
the glosses that are similar to a question. A gloss alone is weak evidence, so an area (a subject) is scored by itself
and by the nearest of its skills, and a skill by itself and by the nearest of its areas.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
from pydantic import Field, StringConstraints, ValidationError, model_validator
from tqdm import tqdm

from gdpo.config.data import Encoder, Taxonomy
from gdpo.config.strict import Strict
from gdpo.config.yaml_loader import first_problem, parsed
from gdpo.core.errors import UserError
from gdpo.core.files import resumable_batches
from gdpo.core.hashing import fingerprint
from gdpo.core.records import Domain, Question, Skills

BATCH = 960  # ours: questions that are cached at once, some ten seconds of work
DEFAULT_TAXONOMY = Path(__file__).with_name("data") / "taxonomy.yaml"

SkillName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$")]
Gloss = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
CosineFunction = Callable[[Sequence[str], Sequence[str]], np.ndarray]  # n texts and m glosses to cosines [n, m]


class Area(Strict):
    domains: list[Domain] = Field(min_length=1)
    gloss: Gloss


class Branch(Strict):
    areas: list[SkillName] = Field(min_length=1)
    skills: dict[SkillName, Gloss]


class Tree(Strict):
    """Areas, the skills below them, and the names that stand for a source's own topic."""

    areas: dict[SkillName, Area]
    skills: list[Branch]
    topics: dict[Label, list[SkillName]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_names(self) -> Tree:
        known = set(self.areas)
        for number, branch in enumerate(self.skills):
            for area in branch.areas:
                if area not in self.areas:
                    raise ValueError(f"skills.{number}.areas: found '{area}', expected one of 'areas'")
            for name in branch.skills:
                if name in known:
                    raise ValueError(f"skills.{number}.skills: found '{name}' a second time, expected it once")
                known.add(name)
        for label, names in self.topics.items():
            for name in names:
                if name not in known:
                    raise ValueError(f"topics.{label}: found '{name}', expected the name of an area or a skill")
        return self

    def match_topics(self, topics: Sequence[str], candidates: Candidates) -> dict[str, str]:
        """The candidates that `topics` stand for, each with its topic: as an entry says, or by the topic's own name."""
        topic_of: dict[str, str] = {}
        for topic in topics:
            for name in self.topics.get(topic, [topic]):
                if name in candidates.index:
                    topic_of.setdefault(name, topic)
        return topic_of


def load(file: str | None = None) -> Tree:
    """The taxonomy in `file`, or the project's own.

    Raises UserError naming file and key where it is none.
    """
    path = Path(file) if file else DEFAULT_TAXONOMY
    try:
        return Tree.model_validate(parsed(path))
    except FileNotFoundError:
        raise UserError("no such file", path=path, expected="a taxonomy") from None
    except ValidationError as error:
        raise UserError(path=path, **first_problem(error, Tree)) from None


@dataclass(frozen=True)
class Candidates:
    """What a domain's questions may need: its areas, then its skills. `parents` has each skill's areas, by index."""

    names: list[str]
    glosses: list[str]
    areas: int
    parents: list[list[int]]
    index: dict[str, int]


def candidates(tree: Tree, domain: Domain) -> Candidates:
    areas = [name for name, area in tree.areas.items() if domain in area.domains]
    place = {name: number for number, name in enumerate(areas)}
    names, glosses, parents = list(areas), [tree.areas[name].gloss for name in areas], []
    for branch in tree.skills:
        above = [place[area] for area in branch.areas if area in place]
        for name, gloss in branch.skills.items() if above else ():
            names.append(name)
            glosses.append(gloss)
            parents.append(above)
    glossed = [f"{name.replace('_', ' ')}: {gloss}" for name, gloss in zip(names, glosses, strict=True)]
    return Candidates(names, glossed, len(areas), parents, {name: number for number, name in enumerate(names)})


def scores(near: np.ndarray, choices: Candidates) -> np.ndarray:
    """The cosines `near` of questions to candidates, each averaged with a neighbour's in the tree, [n, areas + skills].

    An area's cosine is averaged with that of its nearest skill (with its own where it has none), a skill's with that
    of its nearest area. On 900 questions of MMLU's validation set the nearest area was right for 45% by the areas'
    glosses alone and for 53% by this average; the mean of two or three skills, the centroid of all and z-scores over
    the pool did no better.
    """
    areas, skills = near[:, : choices.areas], near[:, choices.areas :]
    below = defaultdict(list)
    for number, parents in enumerate(choices.parents):
        for parent in parents:
            below[parent].append(number)
    other = near.copy()
    for area, numbers in below.items():
        other[:, area] = skills[:, numbers].max(axis=1)
    for number, parents in enumerate(choices.parents):
        other[:, choices.areas + number] = areas[:, parents].max(axis=1)
    averaged: np.ndarray = (near + other) / 2
    return averaged


def nearest(row: np.ndarray, settings: Taxonomy) -> list[int]:
    """The candidates within `margin` of the best score, `min_skills` to `max_skills`, best first."""
    order = np.argsort(-row, kind="stable")
    within = int((row >= row[order[0]] - settings.margin).sum())
    chosen: list[int] = order[: min(max(within, settings.min_skills), settings.max_skills)].tolist()
    return chosen


def views(questions: Sequence[Question]) -> list[list[str]]:
    """The texts of each question: question with choices; where it has a passage, its last paragraph alone as well.

    The last paragraph says what kind of reasoning the question needs: with it 66% of 200 questions of LogiQA 2.0 get an
    area of logic, without it 15%. What all questions of a source share is left out: a shared last paragraph is the
    source's instruction, and shared choices are yes and no.
    """
    by_source: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_source[question.source].append(question)
    shared_endings, shares_choices = {}, {}
    for source, members in by_source.items():
        endings = {question.question.rpartition("\n\n")[1:] for question in members}
        shared_endings[source] = "".join(*endings) if len(members) > 1 and len(endings) == 1 else ""
        shares_choices[source] = len(members) > 1 and len({tuple(question.choices) for question in members}) == 1
    result = []
    for question in questions:
        text = question.question.removesuffix(shared_endings[question.source])
        choices = [] if shares_choices[question.source] else question.choices
        _, passage, last = text.rpartition("\n\n")
        result.append(["\n".join([text, *choices]), *([last] if passage and choices else [])])
    return result


def cosines(question_views: Sequence[Sequence[str]], glosses: Sequence[str], similar: CosineFunction) -> np.ndarray:
    """Cosines [n, m] of n questions to m glosses: of a question's views, the most similar one counts."""
    starts = np.cumsum([0, *(len(texts) for texts in question_views[:-1])])
    return np.maximum.reduceat(similar([text for texts in question_views for text in texts], glosses), starts, axis=0)


def embedding_cosines(encoder: Encoder) -> CosineFunction:
    """Cosines by sentence embeddings."""
    from gdpo.models.sentence_encoder import SentenceEncoder

    model = SentenceEncoder(encoder)
    known: dict[tuple[str, ...], np.ndarray] = {}

    def similar(texts: Sequence[str], glosses: Sequence[str]) -> np.ndarray:
        if tuple(glosses) not in known:
            known[tuple(glosses)] = model.embed(glosses)
        products: np.ndarray = model.embed(texts) @ known[tuple(glosses)].T
        return products

    return similar


def annotate(questions: list[Question], settings: Taxonomy, encoder: Encoder, work: Path) -> list[Skills]:
    """The skills of each question: those that its source's topics stand for, then the nearest of its domain.

    Finished batches are cached below `work`, so that a killed call resumes.
    """
    tree, question_views = load(settings.file), views(questions)
    depends = [tree, settings.model_dump(exclude={"file"}), encoder, [[q.domain, q.topics] for q in questions]]
    depends.append(question_views)

    def batches(done: int) -> Iterator[tuple[list[int], list[dict[str, str]]]]:
        similar = embedding_cosines(encoder)
        starts = range(0, len(questions), BATCH)
        for start in tqdm(starts[done:], initial=done, total=len(starts), desc="annotate", unit="batch"):
            places = range(start, min(start + BATCH, len(questions)))
            matched = match_skills(
                [questions[i] for i in places], [question_views[i] for i in places], tree, settings, similar
            )
            yield list(places), [entry.skills for entry in matched]

    cache = work / "annotate" / f"taxonomy-{fingerprint(depends)}.jsonl"
    skills = resumable_batches(cache, "skills", len(questions), batches)
    return [Skills(id=question.id, skills=named) for question, named in zip(questions, skills, strict=True)]


def match_skills(
    questions: Sequence[Question],
    question_views: Sequence[Sequence[str]],
    tree: Tree,
    settings: Taxonomy,
    similar: CosineFunction,
) -> list[Skills]:
    """The skills of each question by the cosines of its `views`.

    What the topics stand for counts towards `max_skills`, and yet `min_skills` nearest ones stay.
    """
    result = {}
    for domain in get_args(Domain):
        places = [place for place, question in enumerate(questions) if question.domain == domain]
        if not places:
            continue
        choices = candidates(tree, domain)
        if not choices.names:
            raise UserError(path=settings.file or DEFAULT_TAXONOMY, found=f"no area of domain {domain}", expected="one")
        rows = scores(cosines([question_views[place] for place in places], choices.glosses, similar), choices)
        for place, row in zip(places, rows, strict=True):
            question = questions[place]
            by_topic = tree.match_topics(question.topics, choices) if settings.topics else {}
            skills = {name: f"the source says {topic}" for name, topic in by_topic.items()}
            near = [number for number in nearest(row, settings) if choices.names[number] not in by_topic]
            for number in near[: max(settings.min_skills, settings.max_skills - len(by_topic))]:
                skills[choices.names[number]] = f"similarity {row[number]:.2f}"
            result[place] = Skills(id=question.id, skills=skills)
    return [result[place] for place in range(len(questions))]

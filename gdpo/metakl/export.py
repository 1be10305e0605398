"""A training set as a Hugging Face data set directory: its questions, its groups, and its card.

`load_dataset(DIR, "questions")` gives the questions with their units and licences, `load_dataset(DIR, "groups")` the
rows that GDPOTrainer takes: prompt, completions, rewards. The front matter of README.md names the files of each, so
that nothing else in the directory is taken for data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gdpo.config.layout import Layout
from gdpo.core.errors import UserError
from gdpo.core.files import replacing
from gdpo.core.records import Group, Parts, Question, read_records
from gdpo.metakl.card import card, licence

if TYPE_CHECKING:
    from datasets import Features

# Of the Hub's list of licences those that sources have; any other, and several together, are `other` there.
HUB_LICENCES = frozenset(
    ["apache-2.0", "mit", "odc-by", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"]
)
SIZES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]


def export(layout: Layout, trainset: str) -> str:
    """Write `trainset` into its export directory, whole or not at all. Returns a phrase on what was written.

    Groups are written where the set has them. Equal inputs give equal bytes. Raises UserError for imported groups, and
    for a missing file.
    """
    text = card(layout, trainset)
    questions = read_records(layout.trainset(trainset), Question)
    licences = {source: licence(layout.scale, source) for source in dict.fromkeys(q.source for q in questions)}
    groups = read_records(layout.groups(trainset), Group) if layout.groups(trainset).exists() else []
    configs = ["questions", "groups"] if groups else ["questions"]
    if groups and {group.id for group in groups} != {question.id for question in questions}:
        raise UserError(
            path=layout.groups(trainset),
            found="others",
            expected=f"a group for each question of {layout.trainset(trainset)}",
            hint="run `gdpo teach respond` and `gdpo teach reward` again, or move the file away",
        )
    matter = front_matter(layout, trainset, Counter(licences[q.source] for q in questions), configs)
    rows = ({**question.model_dump(), "licence": licences[question.source]} for question in questions)
    with replacing(layout.export(trainset)) as directory:
        (directory / "data").mkdir(parents=True)
        _write(directory / data_file("questions"), rows, question_features())
        if groups:
            _write(directory / data_file("groups"), (group.model_dump() for group in groups), group_features())
        (directory / "README.md").write_text(f"---\n{matter}---\n\n{text}\n{usage(configs)}", encoding="utf-8")
    count = f"{len(questions)} questions"
    return f"{count}, {len(groups)} groups" if groups else f"{count}, no groups (no teacher has answered them yet)"


def usage(configs: list[str]) -> str:
    """How each configuration is loaded, for the end of README.md."""
    lines = ["from datasets import load_dataset"]
    if "groups" in configs:
        lines.append("from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer")
    lines += [f'{name} = load_dataset("DIRECTORY", "{name}", split="train")' for name in configs]
    if "groups" in configs:
        lines.append('GDPOTrainer("MODEL", args=GDPOConfig("trained"), train_dataset=groups).train()')
    return "\n".join(["## Use", "", "```python", *lines, "```", ""])


def data_file(config: str) -> str:
    return f"data/{config}.parquet"


def front_matter(layout: Layout, trainset: str, licences: Counter[str], configs: list[str]) -> str:
    """The YAML at the top of README.md, which the Hub and `load_dataset` read; `licences` count questions."""
    scale = layout.scale
    settings: dict[str, Any] = {
        "pretty_name": f"{scale.trainset(trainset).display} ({scale.scale})",
        "language": ["en"],
    }
    names = sorted(licences, key=lambda name: (-licences[name], name))
    if len(names) == 1 and names[0].lower() in HUB_LICENCES:
        settings["license"] = names[0].lower()
    else:
        settings |= {"license": "other", "license_name": "mixed", "license_details": ", ".join(names)}
    settings["size_categories"] = [next((name for most, name in SIZES if licences.total() < most), "n>1M")]
    settings["task_categories"] = ["question-answering", "text-generation"]
    settings["tags"] = ["reasoning", "metacognitive-knowledge", "preference", "gdpo"]
    settings["configs"] = [
        {"config_name": name, "data_files": [{"split": "train", "path": data_file(name)}]} for name in configs
    ]
    settings["configs"][0]["default"] = True
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)


def question_features() -> Features:
    from datasets import Features, List, Value

    text = Value("string")
    columns = dict.fromkeys(Question.model_fields, text)
    lists = dict.fromkeys(("choices", "topics", "units"), List(text))
    return Features({**columns, **lists, "difficulty": Value("float64"), "licence": text})


def group_features() -> Features:
    from datasets import Features, List, Value

    text, number = Value("string"), Value("float64")
    part = {**dict.fromkeys(Parts.model_fields, number), "verdict": text}
    return Features(
        {
            "id": text,
            "domain": text,
            "prompt": List({"role": text, "content": text}),
            "completions": List(text),
            "rewards": List(number),
            "parts": List(part),
        }
    )


def _write(path: Path, rows: Iterable[dict], features: Features) -> None:
    from datasets import Dataset

    Dataset.from_list(list(rows), features=features).to_parquet(path)

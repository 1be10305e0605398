"""The model card of a trained model: how it was made, with which versions, and what to cite."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from transformers import Trainer

from gdpo.core.files import write_text
from gdpo.trainer import compat

TITLE = (
    "MetaGDPO: Alleviating Catastrophic Forgetting with Metacognitive Knowledge through Group Direct Preference "
    "Optimization"
)
ARXIV = "2511.12113"
# The authors' given names are on the paper; CITATION.cff has what this has.
CITATION = f"""\
@inproceedings{{zhang2026metagdpo,
    title     = {{{{{TITLE}}}}},
    author    = {{Zhang and Xie and Fang and Dong and Liu and Cao}},
    year      = 2026,
    booktitle = {{Proceedings of the AAAI Conference on Artificial Intelligence}},
    url       = {{https://arxiv.org/abs/{ARXIV}}},
}}"""
PACKAGES = {"gdpo": "gdpo", "Transformers": "transformers", "Pytorch": "torch", "Datasets": "datasets", "PEFT": "peft"}


def model_card(
    *,
    base_model: str | None,
    model_name: str,
    hub_model_id: str | None = None,
    dataset_name: str | None = None,
    tags: Iterable[str] = (),
    settings: Iterable[tuple[str, object]] = (),
) -> str:
    """A README.md with a Hub's metadata.

    Args:
        base_model: the Hub name of the model that was trained; None where it is a directory's.
        model_name: the model's name.
        hub_model_id: where it is, for the example; absent, `model_name`.
        dataset_name: the Hub name of the data.
        tags: the metadata's tags.
        settings: the objective's names and values.
    """
    metadata: dict[str, object] = {
        "base_model": base_model,
        "datasets": dataset_name,
        "library_name": "transformers",
        "model_name": model_name,
        "tags": ["generated_from_trainer", *sorted(set(tags))],
    }
    # JSON's strings and lists are YAML's.
    front = [f"{key}: {json.dumps(value)}" for key, value in metadata.items() if value is not None]
    origin = (
        f"a fine-tuned version of [{base_model}](https://huggingface.co/{base_model})" if base_model else "fine-tuned"
    )
    data = f" on [{dataset_name}](https://huggingface.co/datasets/{dataset_name})" if dataset_name else ""
    values = ", ".join(f"`{name}={value}`" for name, value in settings)
    return "\n".join(
        [
            "---", *front, "---", "",
            f"# {model_name}", "",
            f"This model is {origin}{data}. It was trained by group direct preference optimization (GDPO), a method of "
            f"[{TITLE}](https://arxiv.org/abs/{ARXIV}){f', with {values}' if values else ''}.", "",
            "## Quick start", "",
            "```python", "from transformers import pipeline", "",
            f'generator = pipeline("text-generation", model={json.dumps(hub_model_id or model_name)})',
            'question = [{"role": "user", "content": "What is 12 times 12?"}]',
            'print(generator(question, max_new_tokens=512, return_full_text=False)[0]["generated_text"])', "```", "",
            "## Versions", "",
            *(f"- {name}: {found}" for name, package in PACKAGES.items() if (found := _version(package))), "",
            "## Citation", "",
            "```bibtex", CITATION, "```", "",
        ]
    )  # fmt: skip


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class CardTrainer(Trainer):
    """A Trainer that writes the model card of GDPO, as TRL's trainers write theirs."""

    tag_names = ("gdpo",)
    described: tuple[str, ...] = ()  # the settings that the card names

    def create_model_card(  # type: ignore[override]
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """Write README.md to the output directory: a model card that says how the model was made and what to cite.

        Args:
            model_name: absent, the last part of `hub_model_id` or of the output directory.
            dataset_name: the Hub name of the data.
            tags: tags beside `gdpo`.
        """
        if not self.is_world_process_zero():
            return
        assert self.args.output_dir is not None  # TrainingArguments names one where none is given
        directory = Path(self.args.output_dir)
        base = compat.loaded_from(self.model)
        card = model_card(
            base_model=None if not base or Path(base).is_dir() else base,
            model_name=model_name or Path(self.args.hub_model_id or directory.absolute()).name,
            hub_model_id=self.hub_model_id,
            dataset_name=dataset_name,
            tags=[*self.tag_names, *([tags] if isinstance(tags, str) else tags or [])],
            settings=[(name, getattr(self.args, name)) for name in self.described],
        )
        write_text(directory / "README.md", card)

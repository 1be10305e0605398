"""The sources of the paper's training set and how many of its questions come from each (paper, table A4)."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    title: str  # as the paper prints it
    selected: int


# By the name that the source has in workflow/config/sources.yaml.
PUBLISHED = {
    "numina-math": Published("NuminaMath-CoT", 1503),
    "openai-math": Published("OpenAI-MATH", 44),
    "mmlu-validation": Published("MMLU", 1193),
    "commonsenseqa-train": Published("CommonsenseQA", 390),
    "csqa2-train": Published("CommonsenseQA 2.0", 589),
    "logiqa2-train": Published("LogiQA 2.0", 821),
    "alert": Published("ALERT", 27),
    "beavertails": Published("BeaverTails", 167),
    "wildjailbreak-train": Published("WildJailbreak", 439),
    "ultrasafety": Published("UltraSafety", 2),
    "pku-saferlhf": Published("PKU-SafeRLHF", 115),
    "hh-rlhf": Published("HH-RLHF", 41),
    "do-anything-now": Published("Do-Anything-Now", 330),
}

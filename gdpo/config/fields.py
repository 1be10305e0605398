"""Types of fields that several models of the configuration have: names, counts, seeds, rates, references."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

NAME = r"^[A-Za-z0-9][A-Za-z0-9.+_-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Positive = Annotated[int, Field(gt=0)]
MOST_SEEDS = 2**32  # as many as NumPy takes
Seed = Annotated[int, Field(ge=0, lt=MOST_SEEDS)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
NOT_HASHED = Field(exclude=True)
GroupSize = Annotated[int, Field(ge=2)]
Dtype = Literal["float32", "bfloat16", "float64", "mixed"]
Engine = Literal["hf", "vllm"]
DIGEST = r"#sha256=[0-9a-f]{64}"
WHEEL = rf"[^\s+#]+==[^\s+#]+{DIGEST}"
Reference = Annotated[str, Field(pattern=rf"^(hub:\S+/\S+@\S+|dir:[^#]+({DIGEST})?|wheel:{WHEEL}(\+{WHEEL})*)$")]

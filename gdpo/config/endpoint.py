"""An OpenAI-compatible endpoint as typed models: where it is, how it is asked, and what may be spent there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from gdpo.config.fields import NOT_HASHED, Positive, Rate, Share
from gdpo.config.strict import InvalidSetting, Strict


class Budget(Strict):
    """What may be spent at an endpoint, in tokens or in the money of its `price`; absent: no limit."""

    tokens: Positive | None = None
    money: Rate | None = None


class Price(Strict):
    """What a million tokens cost."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)


class StreamOptions(Strict):
    """What is asked of a stream of replies beside them: how many tokens they took."""

    include_usage: bool = True


class Endpoint(Strict):
    """An OpenAI-compatible endpoint. `key` names the environment variable that holds the key, never the key itself.

    `concurrency` requests are in flight at most; one that brings nothing for `timeout` seconds is given up; `attempts`
    are made at each on 429, 5xx, timeouts and broken replies, after waits that double from `backoff` seconds; a reply
    that does not fit is asked for again, `max_rephrasings` times in all.

    `temperature`, `top_p`, `max_tokens` and `stream_options` are sent, but for those that are null: some servers refuse
    one. A null holds whatever a step's own settings say.

    What changes no answer is in no dump, so that a higher budget or another key makes no finished result again.
    """

    base_url: Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$")]  # where no key can hide
    model: str
    key: Annotated[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None, NOT_HASHED] = "OPENAI_API_KEY"
    concurrency: Annotated[Positive, NOT_HASHED] = 8
    timeout: Annotated[Rate, NOT_HASHED] = 120.0
    attempts: Annotated[Positive, NOT_HASHED] = 6
    backoff: Annotated[Rate, NOT_HASHED] = 1.0
    max_rephrasings: Positive = 3
    max_tokens: Positive | None = 1024
    temperature: Annotated[float, Field(ge=0)] | None = 0.0
    top_p: Share | None = 1.0
    stream_options: Annotated[StreamOptions | None, NOT_HASHED] = StreamOptions()
    price: Annotated[Price | None, NOT_HASHED] = None
    budget: Annotated[Budget, NOT_HASHED] = Budget()

    @model_validator(mode="after")
    def _priced(self) -> Endpoint:
        if self.budget.money is not None and self.price is None:
            raise InvalidSetting(key="budget.money", expected="a 'price' beside it")
        if self.max_tokens is None and self.budget != Budget():
            raise InvalidSetting(
                key="max_tokens", found="null beside a budget", expected="the most tokens that a reply may cost"
            )
        return self

    @property
    def identity(self) -> list[str]:
        """Who answers, for the names of caches; one model answers alike wherever it is reached and whoever pays."""
        return [self.model]

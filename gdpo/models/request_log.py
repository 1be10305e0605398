"""The log of an endpoint's requests, replies and cost, an append-only file: nothing is paid for twice.

Ours; the idea is a write-ahead log. Each attempt is two JSON lines. `sent` is written before the request, with the most
tokens that it may cost; `replied` or `failed` after it, with the tokens that it did cost. An attempt whose end is
missing (a killed process) counts as spent in full, since nobody can know what the endpoint charged. A request that the
endpoint refused for good is a line `refused`.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from gdpo.config.endpoint import Endpoint, Price
from gdpo.core.errors import UserError, writing
from gdpo.core.records import Record
from gdpo.core.terminal import say


class Entry(Record):
    """One line: what happened to the request `id`, asked on behalf of `key` for the `ask`-th time.

    `prompt` and `completion` are tokens: reserved ones of an entry `sent`, else spent ones, `estimated` where the
    endpoint did not report them. `refusal` is the text of the reply's refusal field, `tool` a tool that it calls.
    """

    event: Literal["sent", "replied", "failed", "refused"]
    id: str
    key: str = ""
    ask: int = Field(1, ge=1)
    prompt: int = Field(0, ge=0)
    completion: int = Field(0, ge=0)
    estimated: bool = False
    reply: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool: str = ""
    finish: str = ""
    why: str = ""


@dataclass(frozen=True)
class Totals:
    """What a journal's requests took, in this call and before it.

    `requests` counts every attempt; `retries` those after a failure, `asked_again` those after a reply that did not
    fit. `estimated` is the share of the tokens that the endpoint did not report. `money` is in the unit of the price.
    """

    requests: int
    retries: int
    asked_again: int
    replies: int
    prompt_tokens: int
    completion_tokens: int
    estimated: float
    money: float | None

    def __str__(self) -> str:
        money = "" if self.money is None else f", cost {self.money:.4f} at the stated price"
        return (
            f"{self.requests:,} requests, {self.retries:,} of them retries and {self.asked_again:,} asked again; "
            f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens, "
            f"{self.estimated:.0%} of them estimated{money}"
        )


def cost(prompt: float, completion: float, price: Price) -> float:
    """The money that so many tokens cost; prices are by the million."""
    return (prompt * price.prompt + completion * price.completion) / 1e6


class Journal:
    """The file `path`, open for this process alone; a context manager.

    Opening raises UserError where another process has it open and `wait` is false, or where a line is no Entry. A
    last line that a kill has torn is cut off.
    """

    def __init__(self, path: Path, wait: bool = False):
        self.path, self.wait = path, wait
        self.replies: dict[str, list[Entry]] = {}
        self.refused: dict[str, str] = {}  # why, by request
        self.in_flight: dict[str, Entry] = {}
        self.prompt = self.completion = self.estimated = self.requests = 0
        self._asks: set[tuple[str, int]] = set()  # (request, number of the ask)

    def __enter__(self) -> Journal:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with writing(self.path):
            self._file.close()  # and with it the lock

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not self.wait:
                raise UserError(
                    "another process is asking into this journal", path=self.path, hint="wait for it or end it"
                ) from None
            say(f"{self.path}: another process is asking into this journal; waiting for it")
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self._file.truncate(whole)
                os.fsync(self._file.fileno())
                break
            whole += len(line)
            try:
                self._take(Entry.model_validate_json(line))
            except ValidationError as error:
                found = error.errors()[0]["msg"]
                raise UserError(path=self.path, line=number, found=found, expected="an entry of the journal") from None
        for entry in list(self.in_flight.values()):
            self._spend(entry, estimated=True)
        self.in_flight.clear()

    def write(self, entry: Entry) -> None:
        """Append `entry`; on return it survives a kill and a power cut. Raises UserError where the disk is full."""
        row = entry.model_dump(exclude_defaults=True)
        with writing(self.path):
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._take(entry)

    def _take(self, entry: Entry) -> None:
        if entry.event == "sent":
            if entry.id in self.in_flight:  # the attempt before this one was killed
                self._spend(self.in_flight[entry.id], estimated=True)
            self.in_flight[entry.id] = entry
            self.requests += 1
            self._asks.add((entry.id, entry.ask))
            return
        if entry.event == "refused":
            self.refused[entry.id] = entry.why
            return
        self.in_flight.pop(entry.id, None)
        self._spend(entry, entry.estimated)
        if entry.event == "replied":
            self.replies.setdefault(entry.id, []).append(entry)

    def _spend(self, entry: Entry, estimated: bool) -> None:
        self.prompt += entry.prompt
        self.completion += entry.completion
        self.estimated += estimated * (entry.prompt + entry.completion)

    def exceeded(self, prompt: int, completion: int, endpoint: Endpoint) -> Literal["tokens", "money"] | None:
        """Which budget does not hold all that was spent, all that is in flight at its most, and this reservation."""
        prompt += self.prompt + sum(entry.prompt for entry in self.in_flight.values())
        completion += self.completion + sum(entry.completion for entry in self.in_flight.values())
        budget = endpoint.budget
        if budget.tokens is not None and prompt + completion > budget.tokens:
            return "tokens"
        if budget.money is not None:
            assert endpoint.price is not None  # gdpo.config.models.Endpoint: a budget of money has one
            return "money" if cost(prompt, completion, endpoint.price) > budget.money else None
        return None

    def totals(self, price: Price | None) -> Totals:
        """Everything in the journal, priced at `price`."""
        tokens = self.prompt + self.completion
        return Totals(
            requests=self.requests,
            retries=self.requests - len(self._asks),
            asked_again=sum(ask > 1 for _, ask in self._asks),
            replies=sum(len(entries) for entries in self.replies.values()),
            prompt_tokens=self.prompt,
            completion_tokens=self.completion,
            estimated=self.estimated / tokens if tokens else 0.0,
            money=cost(self.prompt, self.completion, price) if price else None,
        )

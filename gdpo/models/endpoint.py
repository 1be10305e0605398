"""Many requests to an OpenAI-compatible endpoint: bounded concurrency, retries, a budget, and nothing paid for twice.

Ours. The paper asks GPT-4o for skills and units and DeepSeek-R1 for responses. What is asked, answered and paid for is
kept in a journal (gdpo.models.request_log): a call that was killed, or ran out of budget, resumes where it stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tqdm import tqdm

from gdpo.config.endpoint import Endpoint
from gdpo.core.errors import UserError
from gdpo.core.hashing import fingerprint
from gdpo.core.progress import report
from gdpo.core.terminal import say
from gdpo.models.openai_client import Client, Failure, Message, key_of, most_tokens
from gdpo.models.replies import is_cut, no_reply_reason, text_of
from gdpo.models.request_log import Entry, Journal, Totals, cost
from gdpo.models.request_pace import MAX_CONSECUTIVE_FAILURES, Pace
from gdpo.models.sampling_types import Sampling

T = TypeVar("T")

QUOTED = 2000  # ours: characters of a reply that did not fit which are shown to the model again


@dataclass(frozen=True)
class Request:
    """A conversation to be answered, on behalf of `key`; `sample` tells several answers to the same one apart."""

    key: str
    messages: list[Message]
    sample: int = 0


Fit = Callable[[Request, Entry], T]  # what a call makes of a reply; raises ValueError with what is wrong with it


def identity(endpoint: Endpoint, request: Request) -> str:
    """What a stored reply is found by: all that its text depends on, and nothing else.

    The base URL is no part of it, since one model answers alike behind a proxy, another port or another provider, and
    a move must not pay again; nor is the key, so that an edited prompt asks anew and a renamed question does not.
    """
    sampling = [endpoint.max_tokens, endpoint.temperature, endpoint.top_p]
    return fingerprint([endpoint.model, request.messages, *sampling, request.sample])


def request_all(
    endpoint: Endpoint,
    requests: Sequence[Request],
    check: Callable[[Request, str], T],
    journal: Path,
    what: str,
    left_to: str | None = None,
) -> tuple[dict[str, T], Totals]:
    """Every request's reply as `check` makes of it, by key, in the order of `requests`, and the journal's totals.

    `check` takes a request and the text of its reply, without a model's reasoning, and raises ValueError with what is
    wrong: the model is then told and asked again. Raises UserError where the budget is spent, the endpoint refuses or
    is down, or a request has no reply that fits; everything answered is kept in `journal`, and a further call asks for
    the rest.

    With `left_to`, the name of a fallback, some requests are left out of what is returned, and no further call asks
    for them: those that were refused, and those whose asks, counted over all calls, have brought no reply that fits.
    """
    if len({request.key for request in requests}) != len(requests):
        raise ValueError("expected a key of its own for every request")

    def fit(request: Request, reply: Entry) -> T:
        if why := no_reply_reason(reply):
            raise ValueError(why)
        if is_cut(reply.finish):
            most = "the endpoint's most" if endpoint.max_tokens is None else endpoint.max_tokens
            raise ValueError(f"it was cut off at {most} tokens; expected a shorter one")
        return check(request, text_of(reply))

    ids, values, totals = _collect(endpoint, requests, fit, Journal(journal), what, left_to=left_to)
    return {request.key: values[id] for request, id in zip(requests, ids, strict=True) if id in values}, totals


def complete_all_endpoint(
    endpoint: Endpoint,
    conversations: list[list[Message]],
    sampling: Sampling,
    journal: Path,
    extra: dict | None = None,
) -> list[list[str]]:
    """`sampling.samples` completions of every conversation, in order, each a request of its own.

    Temperature, top_p and the most new tokens are those of `sampling`, but for what is None at the endpoint, which is
    not sent; nor is the seed, since few endpoints heed one. The journal's totals go into `extra`. A reply that reached
    the most new tokens is a completion like any other; one that is empty, filtered or calls a tool is asked for again,
    in the same words. Several calls may share `journal`, one after the other: a later one waits. Raises UserError as
    `request_all` does.
    """
    settings = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_new_tokens}
    changes = {name: value for name, value in settings.items() if getattr(endpoint, name) is not None}
    requests = [
        Request(f"{number}/{sample}", messages, sample)
        for number, messages in enumerate(conversations)
        for sample in range(sampling.samples)
    ]

    def fit(_: Request, reply: Entry) -> str:
        if why := no_reply_reason(reply):
            raise ValueError(why)
        return completion(reply)

    as_sampled, shared = endpoint.model_copy(update=changes), Journal(journal, wait=True)
    ids, values, totals = _collect(as_sampled, requests, fit, shared, "completions", says_why=False)
    if extra is not None:
        extra["endpoint"] = asdict(totals)
    texts = [values[id] for id in ids]
    return [texts[start : start + sampling.samples] for start in range(0, len(texts), sampling.samples)]


def completion(reply: Entry) -> str:
    """A reply in the students' format: the model's reasoning in <think>...</think>, then its text.

    A thought that was cut off before any text stays open.
    """
    text = text_of(reply).strip()
    if reply.reasoning:
        thought = f"<think>\n{reply.reasoning.strip()}"
        return thought if is_cut(reply.finish) and not text else f"{thought}\n</think>\n\n{text}"
    if "</think>" in text and "<think>" not in text:  # a chat template that opens the block in the prompt
        return f"<think>\n{text}"
    return text


def _collect(
    endpoint: Endpoint,
    requests: Sequence[Request],
    fit: Fit[T],
    journal: Journal,
    what: str,
    left_to: str | None = None,
    says_why: bool = True,
) -> tuple[list[str], dict[str, T], Totals]:
    """Every request's identity, in order, and the fitted replies by it. Equal requests are one.

    Of a reply that does not fit the model is told what was wrong where the call `says_why`; else it is asked as before.
    """
    ids = [identity(endpoint, request) for request in requests]
    unique = dict(zip(ids, requests, strict=True))
    if not journal.path.exists():
        key_of(endpoint)  # a missing key is named before anything is made
    with journal:
        outcomes, pace = _Outcomes(endpoint, journal, fit, left_to is not None), Pace(endpoint.backoff)
        asking = _Asking(endpoint, journal, outcomes, pace, says_why)
        pending = {id: request for id, request in unique.items() if not outcomes.settled(id, request)}
        try:
            if pending:
                with tqdm(total=len(unique), initial=len(outcomes.values), desc=what, unit="reply") as bar:
                    asyncio.run(asking.run(pending, bar))
        except KeyboardInterrupt:
            say(f"{what}: interrupted; {len(outcomes.values)} of {len(unique)} are answered and kept")
            raise
        problem = pace.stop_reason or outcomes.problem()
        if not problem:
            outcomes.write_refusals()
        totals = journal.totals(endpoint.price)
    say(f"{what}: {len(outcomes.values):,} of {len(unique):,} answered; in all {totals}")
    if problem:
        answered = f"{len(outcomes.values)} of {len(unique)} are answered and kept"
        raise UserError(f"{what}: {problem}; {answered}", hint="run again to ask for the rest")
    if outcomes.left:
        id, why = next(iter(outcomes.left.items()))
        left = f"{len(outcomes.left):,} of {len(unique):,} had no reply that fits, first {unique[id].key}: {why}"
        say(f"{what}: {left}; they are left to {left_to}")
    return ids, outcomes.values, totals


class _Outcomes(Generic[T]):
    """What has become of a call's requests: `values` of those answered, `left` why others are left to a fallback.

    Both are by the requests' identities. `leaves`: whether there is a fallback.
    """

    def __init__(self, endpoint: Endpoint, journal: Journal, fit: Fit[T], leaves: bool):
        self.endpoint, self.journal, self.fit, self.leaves = endpoint, journal, fit, leaves
        self.values: dict[str, T] = {}
        self.left: dict[str, str] = {}  # in the order of giving up
        self.unfit: dict[str, tuple[Entry, str]] = {}  # the last reply that did not fit, and why
        self.refused: dict[str, Entry] = {}  # what this call was refused
        self._unanswered: dict[str, str] = {}  # why, by key, in the order of giving up

    def settled(self, id: str, request: Request) -> bool:
        """Whether the journal holds a reply to the request `id` that fits, or says to leave it."""
        replies = self.journal.replies.get(id, [])
        if any(self.take(request, reply) for reply in replies):
            return True
        if self.leaves and id in self.journal.refused:
            self.left[id] = self.journal.refused[id]
        elif self.leaves and len(replies) >= self.endpoint.max_rephrasings:
            self.left[id] = self.unfit[id][1]
        return id in self.left

    def take(self, request: Request, reply: Entry) -> bool:
        """Fit a reply; one that does not fit is remembered, to be shown to the model."""
        try:
            self.values[reply.id] = self.fit(request, reply)
        except ValueError as error:
            self.unfit[reply.id] = reply, str(error)
            return False
        return True

    def give_up(self, id: str, key: str, why: str) -> None:
        """No reply fits, or the request was refused: it is left to the fallback, or stays unanswered."""
        if self.leaves:
            self.left[id] = why
        else:
            self._unanswered[key] = why

    def refuse(self, id: str, key: str, why: str) -> None:
        """The endpoint refused this request, and may answer others."""
        self.refused[id] = Entry(event="refused", id=id, key=key, why=why)
        self.give_up(id, key, why)

    def unreached(self, key: str, why: str) -> None:
        """No attempt had a reply. The request is never left to a fallback: another call may find the server well."""
        self._unanswered[key] = why

    def write_refusals(self) -> None:
        """Write down what was refused and left, so that no further call asks for it."""
        for id, refusal in self.refused.items():
            if id in self.left:
                self.journal.write(refusal)

    def problem(self) -> str:
        """Which requests stay unanswered; empty where none does."""
        if not self._unanswered:
            return ""
        key, why = next(iter(self._unanswered.items()))
        return f"{len(self._unanswered)} had no reply that fits, first {key}: {why}"

    def only_refusals(self) -> str:
        """What was refused, where nothing was ever answered; else empty."""
        if not self.refused or self.journal.replies:
            return ""
        first = next(iter(self.refused.values()))
        return f"{len(self.refused)} requests were refused and none answered: {first.why} to {first.key}"


class _Asking(Generic[T]):
    """One call's requests to the endpoint, until each has an outcome or something stops the call."""

    def __init__(self, endpoint: Endpoint, journal: Journal, outcomes: _Outcomes[T], pace: Pace, says_why: bool):
        self.endpoint, self.journal, self.says_why = endpoint, journal, says_why
        self.outcomes, self.pace = outcomes, pace
        self._busy = 0  # requests that are being asked for

    async def run(self, pending: dict[str, Request], bar: tqdm) -> None:
        """Ask for all of `pending`, at most `endpoint.concurrency` at once; `bar` counts the replies."""
        self._bar = bar
        async with Client(self.endpoint) as self._client:
            queue = iter(pending.items())
            workers = min(self.endpoint.concurrency, len(pending))
            await asyncio.gather(*(self._work(queue) for _ in range(workers)))
        if refusals := self.outcomes.only_refusals():
            self.pace.stop(refusals)

    async def _work(self, queue: Iterator[tuple[str, Request]]) -> None:
        while await self._answers() and (following := next(queue, None)):
            self._busy += 1
            await self._one(*following)
            self._busy -= 1
            self.pace.something_ended()

    async def _answers(self) -> bool:
        """Whether to go on: not where so many requests were refused, and none was ever answered, as by a wrong URL.

        A refusal comes faster than a reply, so those that are being asked for are awaited first.
        """
        while (
            len(self.outcomes.refused) >= MAX_CONSECUTIVE_FAILURES
            and (refusals := self.outcomes.only_refusals())
            and not self.pace.stopped
        ):
            if self._busy:
                await self.pace.next_ending()
            else:
                self.pace.stop(refusals)
        return not self.pace.stopped

    async def _one(self, id: str, request: Request) -> None:
        """Ask until a reply fits. Replies of earlier calls count; a call without a fallback asks at least once."""
        earlier = len(self.journal.replies.get(id, []))
        for ask in range(
            earlier + 1, earlier + 1 + self.endpoint.max_rephrasings - earlier % self.endpoint.max_rephrasings
        ):
            messages = request.messages
            if self.says_why and id in self.outcomes.unfit:
                messages = again(messages, *self.outcomes.unfit[id])
            reply = await self._attempts(id, request.key, ask, messages)
            if reply is None:
                return
            if self.outcomes.take(request, reply):
                self._bar.update()
                report(len(self.outcomes.values), int(self._bar.total), "replies")
                return
        self.outcomes.give_up(id, request.key, self.outcomes.unfit[id][1])

    async def _attempts(self, id: str, key: str, ask: int, messages: list[Message]) -> Entry | None:
        """The reply, or None where the call has ended or the request is given up."""
        prompt, completion = most_tokens(messages, self.endpoint)
        why = ""
        for attempt in range(self.endpoint.attempts):
            if not await self._admitted(prompt, completion):
                return None
            sent = Entry(event="sent", id=id, key=key, ask=ask, prompt=prompt, completion=completion)
            self.journal.write(sent)
            try:
                reply = await self._client.answer(sent, messages)
            except Failure as failure:
                spent = {"estimated": True} if failure.charged else {"prompt": 0, "completion": 0}
                self.journal.write(sent.model_copy(update={"event": "failed", "why": failure.why, **spent}))
                self.pace.something_ended()
                if self._ends(id, key, failure):
                    return None
                why = failure.why
                if attempt + 1 < self.endpoint.attempts:
                    await self.pace.back_off(attempt)
                continue
            self.journal.write(reply)
            self.pace.something_ended()
            self.pace.replied()
            return reply
        why = f"{why}, {self.endpoint.attempts} attempts"
        self.outcomes.unreached(key, why)
        self.pace.gave_up(key, why)
        return None

    def _ends(self, id: str, key: str, failure: Failure) -> bool:
        """Whether a failure ends more than its attempt; what it asks to wait is waited by every request."""
        if not self.pace.hold(failure.wait, failure.why):
            return True
        if failure.ends == "request":
            self.outcomes.refuse(id, key, failure.why)
        elif failure.ends == "call":
            self.pace.stop(failure.why)
        return failure.ends != "attempt"

    async def _admitted(self, prompt: int, completion: int) -> bool:
        """Wait until a request may be sent: as the endpoint asks, and until the budget has room for its most tokens."""
        await self.pace.held()
        while not self.pace.stopped:
            exceeded = self.journal.exceeded(prompt, completion, self.endpoint)
            if exceeded is None:
                return True
            if self.journal.in_flight:
                await self.pace.next_ending()
            else:
                self.pace.stop(self._budget_spent(exceeded, prompt, completion))
        return False

    def _budget_spent(self, exceeded: str, prompt: int, completion: int) -> str:
        totals, budget, price = self.journal.totals(self.endpoint.price), self.endpoint.budget, self.endpoint.price
        if exceeded == "tokens":
            spent = f"{totals.prompt_tokens + totals.completion_tokens:,} of {budget.tokens:,} tokens"
            most = f"{prompt + completion:,}"
        else:
            assert price is not None  # gdpo.config.models.Endpoint: a budget of money has one
            spent = f"{totals.money:.4f} of {budget.money:g}"
            most = f"{cost(prompt, completion, price):.4f}"
        raised = f"raise 'budget.{exceeded}' of its endpoint"
        return f"the budget is spent ({spent}, and the next request may take {most}); {raised}"


def again(messages: list[Message], reply: Entry, why: str) -> list[Message]:
    """The conversation that asks again after a reply that does not fit."""
    correction = (
        f"That reply does not fit: {why}. Answer the first message again, exactly in the form that it asks for."
    )
    bad = {"role": "assistant", "content": text_of(reply)[:QUOTED] or "(empty)"}
    return [*messages, bad, {"role": "user", "content": correction}]

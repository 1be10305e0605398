"""Many requests to an OpenAI-compatible endpoint: bounded concurrency, retries, a budget, and nothing paid for twice.

Ours. The paper asks GPT-4o for skills and units and DeepSeek-R1 for responses. What is asked, answered and paid for is
kept in a journal (gdpo.models.request_log), so that a call which was killed, or ran out of budget, goes on where it
stopped.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tqdm import tqdm

from gdpo.config.models import Endpoint
from gdpo.core.errors import UserError
from gdpo.core.hashing import fingerprint
from gdpo.core.progress import report
from gdpo.core.terminal import say
from gdpo.models.openai_client import Client, Failure, Message, key_of, most_tokens
from gdpo.models.replies import is_cut, lacking, said
from gdpo.models.request_log import Entry, Journal, Totals, cost
from gdpo.models.sampling_types import Sampling

T = TypeVar("T")

LONGEST_WAIT = 60.0  # ours, seconds: what waits between attempts double up to
MAX_REQUESTED_WAIT = 600.0  # ours, seconds: an endpoint that asks for a longer wait (a quota of the day) ends the call
MAX_CONSECUTIVE_FAILURES = (
    3  # ours: as many requests in a row without any reply, and the endpoint counts as down or wrongly addressed
)
QUOTED = 2000  # ours: characters of a reply that did not fit which are shown to the model again


@dataclass(frozen=True)
class Request:
    """A conversation to be answered, on behalf of `key`; `sample` tells several answers to the same one apart."""

    key: str
    messages: list[Message]
    sample: int = 0


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

    With `left_to`, the name of what stands in, requests that were refused or whose asks, counted over all calls, have
    brought no reply that fits are left out of what is returned, and no further call asks for them.
    """
    if len({request.key for request in requests}) != len(requests):
        raise ValueError("expected a key of its own for every request")

    def fit(request: Request, reply: Entry) -> T:
        if why := lacking(reply):
            raise ValueError(why)
        if is_cut(reply.finish):
            most = "the endpoint's most" if endpoint.max_tokens is None else endpoint.max_tokens
            raise ValueError(f"it was cut off at {most} tokens; expected a shorter one")
        return check(request, said(reply))

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
    given = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_new_tokens}
    changes = {name: value for name, value in given.items() if getattr(endpoint, name) is not None}
    requests = [
        Request(f"{number}/{sample}", messages, sample)
        for number, messages in enumerate(conversations)
        for sample in range(sampling.samples)
    ]

    def fit(_: Request, reply: Entry) -> str:
        if why := lacking(reply):
            raise ValueError(why)
        return completion(reply)

    changed, kept = endpoint.model_copy(update=changes), Journal(journal, wait=True)
    ids, values, totals = _collect(changed, requests, fit, kept, "completions", retells=False)
    if extra is not None:
        extra["endpoint"] = asdict(totals)
    texts = [values[id] for id in ids]
    return [texts[start : start + sampling.samples] for start in range(0, len(texts), sampling.samples)]


def completion(reply: Entry) -> str:
    """A reply in the students' format: what the model thought stands in <think>...</think> before what it said.

    A thought that was cut off before anything was said stays open.
    """
    text = said(reply).strip()
    if reply.reasoning:
        thought = f"<think>\n{reply.reasoning.strip()}"
        return thought if is_cut(reply.finish) and not text else f"{thought}\n</think>\n\n{text}"
    if "</think>" in text and "<think>" not in text:  # a chat template that opens the block in the prompt
        return f"<think>\n{text}"
    return text


def _collect(
    endpoint: Endpoint,
    requests: Sequence[Request],
    fit: Callable[[Request, Entry], T],
    journal: Journal,
    what: str,
    left_to: str | None = None,
    retells: bool = True,
) -> tuple[list[str], dict[str, T], Totals]:
    """Every request's identity, in order, and the fitted replies by it. Equal requests are one.

    Of a reply that does not fit the model is told what was wrong where a call `retells`; else it is asked as before.
    """
    ids = [identity(endpoint, request) for request in requests]
    unique = dict(zip(ids, requests, strict=True))
    if not journal.path.exists():
        key_of(endpoint)  # a missing key is named before anything is made
    with journal:
        asking = _Asking(endpoint, journal, fit, left_to is not None, retells)
        pending = {id: request for id, request in unique.items() if not asking.settled(id, request)}
        try:
            if pending:
                with tqdm(total=len(unique), initial=len(asking.values), desc=what, unit="reply") as asking.bar:
                    asyncio.run(asking.run(pending))
        except KeyboardInterrupt:
            say(f"{what}: interrupted; {len(asking.values)} of {len(unique)} are answered and kept")
            raise
        if not asking.problem():
            asking.keep_refusals()
        totals = journal.totals(endpoint.price)
    say(f"{what}: {len(asking.values):,} of {len(unique):,} answered; in all {totals}")
    if problem := asking.problem():
        kept = f"{len(asking.values)} of {len(unique)} are answered and kept"
        raise UserError(f"{what}: {problem}; {kept}: run again to ask for the rest")
    if asking.left:
        id, why = next(iter(asking.left.items()))
        left = f"{len(asking.left):,} of {len(unique):,} had no reply that fits, first {unique[id].key}: {why}"
        say(f"{what}: {left}; they are left to {left_to}")
    return ids, asking.values, totals


class _Asking(Generic[T]):
    """One call's work on a journal: `values` fills with what was answered, until everything is or something ends it."""

    def __init__(
        self, endpoint: Endpoint, journal: Journal, fit: Callable[[Request, Entry], T], leaves: bool, retells: bool
    ):
        self.endpoint, self.journal, self.fit, self.leaves, self.retells = endpoint, journal, fit, leaves, retells
        self.values: dict[str, T] = {}
        self.left: dict[str, str] = {}  # why, of those left to something else, in the order of giving up
        self.bar: tqdm | None = None
        self._unfit: dict[str, tuple[Entry, str]] = {}  # the last reply that did not fit, and why
        self._unanswered: dict[str, str] = {}  # why, by key, in the order of giving up
        self._reason = ""  # why the call ends early
        self._refused: dict[str, Entry] = {}  # what this call was refused
        self._busy = 0  # requests that are being asked for
        self._in_a_row = 0  # requests given up since the last reply
        self._not_before = 0.0
        self._jitter = random.Random()  # apart from the named seeds: it decides about waits alone

    def settled(self, id: str, request: Request) -> bool:
        """Whether the journal holds a reply to the request `id` that fits, or says to leave it."""
        replies = self.journal.replies.get(id, [])
        if any(self._take(request, reply) for reply in replies):
            return True
        if self.leaves and id in self.journal.refused:
            self.left[id] = self.journal.refused[id]
        elif self.leaves and len(replies) >= self.endpoint.max_rephrasings:
            self.left[id] = self._unfit[id][1]
        return id in self.left

    def keep_refusals(self) -> None:
        """Write down what was refused and left, so that no further call asks for it."""
        for id, refusal in self._refused.items():
            if id in self.left:
                self.journal.write(refusal)

    def problem(self) -> str:
        """What kept the call from answering everything; empty where nothing did."""
        if self._reason or not self._unanswered:
            return self._reason
        key, why = next(iter(self._unanswered.items()))
        return f"{len(self._unanswered)} had no reply that fits, first {key}: {why}"

    def _take(self, request: Request, reply: Entry) -> bool:
        """Fit a reply; a bad one is remembered, to be told to the model."""
        try:
            self.values[reply.id] = self.fit(request, reply)
        except ValueError as error:
            self._unfit[reply.id] = reply, str(error)
            return False
        return True

    async def run(self, pending: dict[str, Request]) -> None:
        """Ask for all of `pending`, at most `endpoint.concurrency` at once."""
        self._stopped, self._landed = asyncio.Event(), asyncio.Event()
        async with Client(self.endpoint) as self._client:
            queue = iter(pending.items())
            workers = min(self.endpoint.concurrency, len(pending))
            await asyncio.gather(*(self._work(queue) for _ in range(workers)))
        if self._refused and not self.journal.replies:
            self._stop(self._nothing_but_refusals())

    async def _work(self, queue: Iterator[tuple[str, Request]]) -> None:
        while await self._answers() and (following := next(queue, None)):
            self._busy += 1
            await self._one(*following)
            self._busy -= 1
            self._landed.set()

    async def _answers(self) -> bool:
        """Whether to go on: not where so many requests were refused, and none was ever answered, as by a wrong URL.

        A refusal comes faster than a reply, so those that are being asked for are awaited first.
        """
        while (
            len(self._refused) >= MAX_CONSECUTIVE_FAILURES and not self.journal.replies and not self._stopped.is_set()
        ):
            if not self._busy:
                self._stop(self._nothing_but_refusals())
            else:
                self._landed.clear()
                await self._landed.wait()
        return not self._stopped.is_set()

    def _nothing_but_refusals(self) -> str:
        first = next(iter(self._refused.values()))
        return f"{len(self._refused)} requests were refused and none answered: {first.why} to {first.key}"

    async def _one(self, id: str, request: Request) -> None:
        """Ask until a reply fits. Replies of earlier calls count; a call that leaves nothing has at least one ask."""
        asked = len(self.journal.replies.get(id, []))
        for ask in range(asked + 1, asked + 1 + self.endpoint.max_rephrasings - asked % self.endpoint.max_rephrasings):
            messages = request.messages
            if self.retells and id in self._unfit:
                messages = again(messages, *self._unfit[id])
            reply = await self._attempts(id, request.key, ask, messages)
            if reply is None:
                return
            if self._take(request, reply):
                assert self.bar is not None  # there before anything is asked
                self.bar.update()
                report(len(self.values), int(self.bar.total), "replies")
                return
        self._give_up(id, request.key, self._unfit[id][1])

    def _give_up(self, id: str, key: str, why: str) -> None:
        if self.leaves:
            self.left[id] = why
        else:
            self._unanswered[key] = why

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
                lost = {"estimated": True} if failure.charged else {"prompt": 0, "completion": 0}
                self.journal.write(sent.model_copy(update={"event": "failed", "why": failure.why, **lost}))
                self._landed.set()
                if self._ends(id, key, failure):
                    return None
                why = failure.why
                if attempt + 1 < self.endpoint.attempts:
                    await self._pause(wait(attempt, self.endpoint.backoff, self._jitter))
                continue
            self.journal.write(reply)
            self._landed.set()
            self._in_a_row = 0
            return reply
        self._unanswered[key] = f"{why}, {self.endpoint.attempts} attempts"
        self._in_a_row += 1
        if self._in_a_row == MAX_CONSECUTIVE_FAILURES:
            self._stop(
                f"{MAX_CONSECUTIVE_FAILURES} requests in a row had no reply, the last {key}: {self._unanswered[key]}"
            )
        return None

    def _ends(self, id: str, key: str, failure: Failure) -> bool:
        """Whether a failure ends more than its attempt; what it asks to wait is waited by every request."""
        if failure.wait > MAX_REQUESTED_WAIT:
            self._stop(f"{failure.why} and asks to wait {failure.wait:.0f} s")
            return True
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + failure.wait)
        if failure.ends == "request":  # the endpoint may answer others
            self._refused[id] = Entry(event="refused", id=id, key=key, why=failure.why)
            self._give_up(id, key, failure.why)
        elif failure.ends == "call":
            self._stop(failure.why)
        return failure.ends != "attempt"

    async def _admitted(self, prompt: int, completion: int) -> bool:
        """Wait until a request may be sent: as the endpoint asks, and until the budget has room for its most tokens."""
        while (left := self._not_before - asyncio.get_running_loop().time()) > 0 and not self._stopped.is_set():
            await self._pause(left)
        while not self._stopped.is_set():
            exceeded = self.journal.exceeded(prompt, completion, self.endpoint)
            if exceeded is None:
                return True
            if not self.journal.in_flight:
                self._stop(self._spent(exceeded, prompt, completion))
            else:
                self._landed.clear()
                await self._landed.wait()
        return False

    def _spent(self, exceeded: str, prompt: int, completion: int) -> str:
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

    def _stop(self, reason: str) -> None:
        """No further request is sent; those in flight end by themselves."""
        self._reason = self._reason or reason
        self._stopped.set()

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the call ends."""
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return


def wait(attempt: int, backoff: float, jitter: random.Random) -> float:
    """Seconds before the attempt after `attempt` (from 0): doubling from `backoff`, halved to whole at random.

    The jitter keeps requests that failed together from coming back together (Brooker, "Exponential Backoff And
    Jitter", 2015).
    """
    return min(LONGEST_WAIT, backoff * 2.0**attempt) * jitter.uniform(0.5, 1.0)


def again(messages: list[Message], reply: Entry, why: str) -> list[Message]:
    """The conversation that asks again after a reply that does not fit."""
    told = f"That reply does not fit: {why}. Answer the first message again, exactly in the form that it asks for."
    bad = {"role": "assistant", "content": said(reply)[:QUOTED] or "(empty)"}
    return [*messages, bad, {"role": "user", "content": told}]

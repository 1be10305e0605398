"""When the requests of one call may be sent: waits between attempts, failures in a row, and the end of the call."""

from __future__ import annotations

import asyncio
import random

LONGEST_WAIT = 60.0  # ours, seconds: what waits between attempts double up to
MAX_REQUESTED_WAIT = 600.0  # ours, seconds: an endpoint that asks for a longer wait (a quota of the day) ends the call
# ours: after as many requests in a row without any reply the endpoint counts as down or wrongly addressed
MAX_CONSECUTIVE_FAILURES = 3


class Pace:
    """The pace of one call's requests; to be used within one event loop.

    `stop_reason`: why the call ends early, empty while it goes on. `backoff`: seconds before the second attempt.
    """

    def __init__(self, backoff: float):
        self.backoff = backoff
        self.stop_reason = ""
        self._stop_event = asyncio.Event()
        self._ended_event = asyncio.Event()
        self._failures_in_a_row = 0
        self._not_before = 0.0
        self._jitter = random.Random()  # apart from the named seeds: it decides about waits alone

    @property
    def stopped(self) -> bool:
        return self._stop_event.is_set()

    def stop(self, reason: str) -> None:
        """No further request is sent; those in flight end by themselves. The first reason stays."""
        self.stop_reason = self.stop_reason or reason
        self._stop_event.set()

    def something_ended(self) -> None:
        """An attempt or a request has ended: whoever awaits that looks again."""
        self._ended_event.set()

    async def next_ending(self) -> None:
        """Wait until an attempt or a request ends."""
        self._ended_event.clear()
        await self._ended_event.wait()

    def replied(self) -> None:
        """A request has had a reply: the endpoint is up."""
        self._failures_in_a_row = 0

    def gave_up(self, key: str, why: str) -> None:
        """A request has had no reply in all its attempts; too many of them in a row stop the call."""
        self._failures_in_a_row += 1
        if self._failures_in_a_row == MAX_CONSECUTIVE_FAILURES:
            self.stop(f"{MAX_CONSECUTIVE_FAILURES} requests in a row had no reply, the last {key}: {why}")

    def hold(self, seconds: float, why: str) -> bool:
        """Send no request for so long, as the endpoint asks; a wait that is too long stops the call, and is False."""
        if seconds > MAX_REQUESTED_WAIT:
            self.stop(f"{why} and asks to wait {seconds:.0f} s")
            return False
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + seconds)
        return True

    async def held(self) -> None:
        """Wait until `hold` is over, or the call has stopped."""
        while (left := self._not_before - asyncio.get_running_loop().time()) > 0 and not self.stopped:
            await self._pause(left)

    async def back_off(self, attempt: int) -> None:
        """Wait before the attempt after `attempt` (from 0), or until the call has stopped."""
        await self._pause(backoff_seconds(attempt, self.backoff, self._jitter))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop_event.wait(), seconds)
        except TimeoutError:
            return


def backoff_seconds(attempt: int, backoff: float, jitter: random.Random) -> float:
    """Seconds before the attempt after `attempt` (from 0): doubling from `backoff`, halved to whole at random.

    The jitter keeps requests that failed together from coming back together (Brooker, "Exponential Backoff And
    Jitter", 2015).
    """
    return min(LONGEST_WAIT, backoff * 2.0**attempt) * jitter.uniform(0.5, 1.0)

"""One attempt at one request to an OpenAI-compatible endpoint: the reply as an entry of the log, or a Failure.

Replies are streamed, so that a dead connection is told from a slow model. The protocol is that of OpenAI's chat
completions (platform.openai.com/docs/api-reference/chat), with the field that others add for a model's reasoning.
"""

from __future__ import annotations

import datetime
import logging
import math
import os
import re
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

from gdpo.config.endpoint import Endpoint
from gdpo.core.errors import UserError, first_line
from gdpo.core.redaction import masked
from gdpo.models.replies import Pieces, Unread, is_broken
from gdpo.models.request_log import Entry

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

MAYBE_CHARGED = (408, 504, 524)  # a gateway gave up waiting: the model behind it may have answered, and charged
RETRYABLE = (408, 409, 429)  # the 4xx that another attempt may not meet
OF_THE_REQUEST = (400, 413, 422)  # what one request may be refused for while others are answered
LEFT_OUT = ("max_tokens", "temperature", "top_p", "stream_options")  # what null in a scale does not send
UNSUPPORTED = re.compile(
    r"unsupported|not\W+support|not\W+(permitted|allowed|accepted|recogni[sz]ed)|extra|unknown|unrecogni[sz]ed|"
    r"unexpected|invalid (parameter|argument|field)|deprecated",
    re.IGNORECASE,
)
NETWORK = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
UNLIMITED = 32768  # ours: tokens that a reply without a limit is counted at, where its end is not known
QUOTED = 200  # characters of a server's message that are quoted

Message = dict[str, str]


class Failure(Exception):
    """An attempt without a reply: why, whether it may have been charged for, and what it ends.

    `wait` is how many seconds the endpoint asks for.
    """

    def __init__(
        self, why: str, charged: bool, ends: Literal["attempt", "request", "call"] = "attempt", wait: float = 0
    ):
        super().__init__(why)
        self.why, self.charged, self.ends, self.wait = why, charged, ends, wait


def most_tokens(messages: list[Message], endpoint: Endpoint) -> tuple[int, int]:
    """The tokens that a request may cost at most, prompt and completion.

    A token of a byte-level vocabulary is at least a byte; 64 tokens, and 8 a message, are left for the template.
    """
    prompt = 64 + sum(8 + len(message["content"].encode()) for message in messages)
    return prompt, UNLIMITED if endpoint.max_tokens is None else endpoint.max_tokens


def likely_tokens(text: str) -> int:
    """What an endpoint that reports no tokens has probably counted; three bytes a token, as in mathematical English."""
    return math.ceil(len(text.encode()) / 3)


def key_of(endpoint: Endpoint) -> str:
    """The endpoint's key; empty where it needs none. Raises UserError naming the variable, never what it holds."""
    if endpoint.key is None:
        return ""
    key = os.environ.get(endpoint.key, "").strip()
    if not key:
        raise UserError(
            path=endpoint.base_url,
            found="no key",
            expected=f"its key in the environment variable {endpoint.key}",
        )
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            key=f"environment variable {endpoint.key}",
            found="other characters",
            expected="a key of printable ASCII",
        )
    return key


def setup_error(endpoint: Endpoint, key: str, error: Exception) -> UserError:
    """Why no connection to an endpoint can be set up. The values of variables are not shown: a proxy has a password."""
    used = [name for name in os.environ if name.upper() in NETWORK and os.environ[name]]
    shown = masked(first_line(error), key)
    for name in used:
        shown = shown.replace(os.environ[name], f"${name}")
    return UserError(
        "no connection to it can be set up",
        path=endpoint.base_url,
        found=f"{type(error).__name__}: {shown}",
        expected=f"{', '.join(sorted(used))} of the environment to hold what can be used" if used else None,
    )


class Client:
    """An endpoint with its key; a context manager, inside of which `answer` is awaited."""

    def __init__(self, endpoint: Endpoint):
        import openai

        for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):  # below, they log what is sent
            logging.getLogger(name).setLevel(logging.WARNING)
        self.endpoint = endpoint
        self._key = key_of(endpoint)
        self._limit = "max_tokens"
        try:
            # A key is given in any case: the library would else send that of OPENAI_API_KEY to whoever is endpoint.
            self._openai = openai.AsyncOpenAI(
                base_url=endpoint.base_url, api_key=self._key or "none", timeout=endpoint.timeout, max_retries=0
            )
        except Exception as error:  # of the file system, ssl, httpx, or a package that a proxy needs
            raise setup_error(endpoint, self._key, error) from None

    async def __aenter__(self) -> Client:
        await self._openai.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._openai.__aexit__(kind, error, trace)

    async def answer(self, sent: Entry, messages: list[Message]) -> Entry:
        """The reply to `messages` with what it cost. Raises Failure, whatever the server does."""
        import openai

        limit = self._limit
        try:
            return await self._stream(sent, messages, limit)
        except openai.APIStatusError as error:
            failure = self._refused(error, limit)
        except openai.APIConnectionError as error:
            unsent = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")
            late = isinstance(error, openai.APITimeoutError)
            why = f"nothing came for {self.endpoint.timeout:g} s" if late else "the connection broke"
            failure = Failure(f"no connection to {self.endpoint.base_url}" if unsent else why, charged=not unsent)
        except openai.APIError as error:
            failure = Failure(f"an error amid the reply{self._message(error)}", charged=True)
        except Unread as error:
            failure = Failure(f"the reply holds {error}", charged=True, ends="request")
        except (openai.OpenAIError, ValueError, TypeError, AttributeError, RecursionError, ExceptionGroup) as error:
            failure = Failure(f"the reply is no stream of completions ({type(error).__name__})", charged=True)
        raise failure

    async def _stream(self, sent: Entry, messages: list[Message], limit: str) -> Entry:
        import openai

        endpoint, pieces, tokens = self.endpoint, Pieces(), None
        most = endpoint.max_tokens or openai.omit
        stream = await self._openai.chat.completions.create(
            model=endpoint.model,
            messages=cast("list[ChatCompletionMessageParam]", messages),  # a type for each role in openai
            temperature=openai.omit if endpoint.temperature is None else endpoint.temperature,
            top_p=endpoint.top_p or openai.omit,
            stream=True,
            stream_options={"include_usage": endpoint.stream_options.include_usage}
            if endpoint.stream_options
            else openai.omit,
            max_tokens=most if limit == "max_tokens" else openai.omit,
            max_completion_tokens=most if limit == "max_completion_tokens" else openai.omit,
        )
        async with stream:
            try:
                async for chunk in stream:
                    tokens = _tokens(chunk.usage) or tokens
                    for choice in (chunk.choices or [])[:1]:
                        pieces.add(choice)
            except openai.APIConnectionError:
                if not pieces.finish:  # else only the count of tokens was cut off
                    raise
        if is_broken(pieces.finish):
            raise Failure("the reply was cut off", charged=True)
        given = (pieces.content, pieces.thought, pieces.refusal, pieces.tool, pieces.finish)
        reply, thoughts, refusal, tool, finish = map(self._clean, given)
        prompt = "".join(message["content"] for message in messages)
        counted = tokens or (likely_tokens(prompt), likely_tokens(reply + thoughts + refusal))
        return Entry(
            event="replied", id=sent.id, key=sent.key, ask=sent.ask, prompt=counted[0], completion=counted[1],
            estimated=tokens is None, reply=reply, reasoning=thoughts, refusal=refusal, tool=tool, finish=finish,
        )  # fmt: skip

    def _refused(self, error: Any, limit: str) -> Failure:
        """What a status of 400 or more means."""
        status, message = error.status_code, self._message(error)
        unwanted = self._unwanted(f"{error} {error.body}") if status in (400, 422) else ""
        if unwanted == "max_tokens" and limit == "max_tokens":
            self._limit = "max_completion_tokens"  # the name that newer models of OpenAI insist on
            return Failure(f"another name for max_tokens is wanted: answered {status}{message}", charged=False)
        if status in (401, 403):
            found = f"the key in {self.endpoint.key}" if self.endpoint.key else "a request without a key ('key: null')"
            return Failure(f"{self.endpoint.base_url} refused {found} ({status})", charged=False, ends="call")
        hint = f"; '{unwanted}: null' at the endpoint leaves it out" if unwanted else ""
        why = f"{self.endpoint.base_url} answered {status}{message}{hint}"
        if error.code == "insufficient_quota":
            return Failure(why, charged=False, ends="call")
        if status in RETRYABLE or status >= 500:
            return Failure(
                why, charged=status in MAYBE_CHARGED, wait=retry_after(error.response.headers.get("retry-after"))
            )
        return Failure(why, charged=False, ends="request" if status in OF_THE_REQUEST else "call")

    def _unwanted(self, text: str) -> str:
        """The parameter that an error's text says is not taken, of those that can be left out; empty where none."""
        named = text.replace("max_completion_tokens", "max_tokens")
        sent = [name for name in LEFT_OUT if getattr(self.endpoint, name) is not None and name in named]
        return sent[0] if sent and ("max_completion_tokens" in text or UNSUPPORTED.search(text)) else ""

    def _message(self, error: Any) -> str:
        """The server's message about an error, in brackets: one line, without the key."""
        body = error.body
        message = body.get("message") if isinstance(body, dict) else body
        text = " ".join(self._clean(message).split()) if isinstance(message, str) else ""
        return f" ({text[:QUOTED]})" if text else ""

    def _clean(self, text: str) -> str:
        """`text` without the key, and without halves of characters, which no file could hold."""
        return masked(text, self._key).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _tokens(usage: Any) -> tuple[int, int] | None:
    """Prompt and completion tokens as reported; None where that is no report."""
    prompt, completion = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    if type(prompt) is not int or type(completion) is not int or min(prompt, completion) < 0:
        return None
    return (prompt, completion) if prompt + completion else None


def retry_after(header: str | None) -> float:
    """Seconds to wait by a Retry-After header: a number or a date (RFC 9110, 10.2.3); 0 where it is neither."""
    if header is None:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)
        seconds = (date - datetime.datetime.now(datetime.UTC)).total_seconds()
    return seconds if seconds > 0 else 0.0

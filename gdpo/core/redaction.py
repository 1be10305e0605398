"""Keys kept out of what is said and stored: those of an endpoint, of the environment, and in addresses (ours).

What a server, the Hub's client or pip says may repeat the key that it was sent, whole, in part or encoded.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from urllib.parse import quote

MIN_KEY_LENGTH = 12  # ours: a shorter key is the placeholder of a local server, and may be a word of a reply
MASK = "***"
_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)S?$")  # of environment variables that hold one
_USER = re.compile(r"(?<=://)[^/\s]+@")  # a password may hold an @ itself
_NAMED = (
    r"(?=[\w-]*?(?:key|token|secret|password))([\w-]++)"  # each character looked at once or twice: text may be long
)
_QUERY = re.compile(rf"(?<=[?&]){_NAMED}=[^&\s#]+", re.IGNORECASE)


def masked(text: str, key: str) -> str:
    """`text` without `key`, its URL and base64 forms, and any SECRET characters in a row of them."""
    if len(key) < MIN_KEY_LENGTH:
        return text
    for form in _forms(key):
        pieces = {form[at : at + MIN_KEY_LENGTH] for at in range(len(form) - MIN_KEY_LENGTH + 1)}
        if any(piece in text for piece in pieces):
            text = _without(text, form)
    return text


def scrubbed(text: str) -> str:
    """`text` without the keys in environment variables named so, and without names, passwords and keys in URLs.

    A variable that names a file, such as SSL_KEY, holds no key: every path beside that file would be masked.
    """
    for name, value in os.environ.items():
        if _NAMES.search(name) and not os.path.exists(value.strip()):
            text = masked(text, value.strip())
    return _QUERY.sub(rf"\1={MASK}", _USER.sub(f"{MASK}@", text))


def _forms(key: str) -> Iterator[str]:
    """The key as it is, in a URL, and in base64 behind 0, 1 and 2 other bytes, as in `Basic`."""
    yield key
    if (quoted := quote(key, safe="")) != key:
        yield quoted
    for before in range(3):
        data = b"\0" * before + key.encode()
        # Six bits a character: the first ones mix with what stands before the key, the last with what follows.
        form = base64.b64encode(data).decode()[(8 * before + 5) // 6 : 8 * len(data) // 6]
        if len(form) >= MIN_KEY_LENGTH:
            yield form


def _without(text: str, form: str) -> str:
    """`text` with each longest stretch of it that `form` has, from SECRET characters on, masked."""
    kept, at = [], 0
    while at < len(text):
        end = at + MIN_KEY_LENGTH
        if text[at:end] not in form or end > len(text):
            kept.append(text[at])
            at += 1
            continue
        while end < len(text) and text[at : end + 1] in form:
            end += 1
        kept.append(MASK)
        at = end
    return "".join(kept)

"""Masks keys in what is printed and stored: keys of an endpoint, of the environment, and in URLs.

The messages of a server, of the Hub's client or of pip may repeat the key that they were sent, whole, in part or
encoded.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from urllib.parse import quote

MIN_KEY_LENGTH = 12  # ours: a shorter key is a local server's placeholder, and may be a word of a reply
MASK = "***"
_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)S?$")  # of environment variables that hold one
_USER = re.compile(r"(?<=://)[^/\s]+@")  # a password may hold an @ itself
_NAMED = (
    r"(?=[\w-]*?(?:key|token|secret|password))([\w-]++)"  # each character looked at once or twice: text may be long
)
_QUERY = re.compile(rf"(?<=[?&]){_NAMED}=[^&\s#]+", re.IGNORECASE)


def masked(text: str, key: str) -> str:
    """`text` without `key`, its URL and base64 forms, and any MIN_KEY_LENGTH successive characters of them."""
    if len(key) < MIN_KEY_LENGTH:
        return text
    for form in _forms(key):
        pieces = {form[at : at + MIN_KEY_LENGTH] for at in range(len(form) - MIN_KEY_LENGTH + 1)}
        if any(piece in text for piece in pieces):
            text = _without(text, form)
    return text


def scrubbed(text: str) -> str:
    """`text` without the keys of the environment variables whose names say so, and without those in URLs.

    User names and passwords in URLs are masked too. A variable that names a file, such as SSL_KEY, holds no key: every
    path beside that file would be masked.
    """
    for name, value in os.environ.items():
        if _NAMES.search(name) and not os.path.exists(value.strip()):
            text = masked(text, value.strip())
    return _QUERY.sub(rf"\1={MASK}", _USER.sub(f"{MASK}@", text))


def _forms(key: str) -> Iterator[str]:
    """The key as it is, in a URL, and in base64 after 0, 1 and 2 other bytes, as in `Basic`."""
    yield key
    if (quoted := quote(key, safe="")) != key:
        yield quoted
    for before in range(3):
        data = b"\0" * before + key.encode()
        # Each character is six bits: the first ones mix with what comes before the key, the last with what follows.
        form = base64.b64encode(data).decode()[(8 * before + 5) // 6 : 8 * len(data) // 6]
        if len(form) >= MIN_KEY_LENGTH:
            yield form


def _without(text: str, form: str) -> str:
    """`text` with each longest stretch of it that is part of `form` masked, from MIN_KEY_LENGTH characters on."""
    pieces, at = [], 0
    while at < len(text):
        end = at + MIN_KEY_LENGTH
        if text[at:end] not in form or end > len(text):
            pieces.append(text[at])
            at += 1
            continue
        while end < len(text) and text[at : end + 1] in form:
            end += 1
        pieces.append(MASK)
        at = end
    return "".join(pieces)

"""What is shown of records: their keys and contents, or names in place of keys and nothing else.

Decides how bytes from outside become text, and what stands for a key that may not be seen. Invariant: unless records may
be shown no byte of one is in an answer, and what stands for a key can be made by this process alone.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from headrace._runtime.hot_keys import HotKeys

if TYPE_CHECKING:
    from headrace._runtime.hot_keys import HotKey
    from headrace._runtime.snapshots import OwnerSnapshot

KEY_CHARS_MAX = 80
NAME_BYTES = 4
"""Of a hash that stands for a key: two of a dozen keys have the same once in fifty million times."""


class Showing:
    """How keys appear in the answers of one server. Any thread.

    records: whether keys, headers and values may be seen.
    """

    def __init__(self, *, records: bool) -> None:
        self.records = records
        # Without a secret a list of all customers would tell which of them a hash is of.
        self._secret = secrets.token_bytes(32)

    def hot_keys(self, found: HotKeys) -> dict[str, Any]:
        """The keys that most records had, for JSON."""
        return {
            "samples": found.samples,
            "keyless": found.keyless,
            "every": found.every,
            "shown": self.records,
            "top": [
                {
                    "topic": one.topic,
                    "partition": one.partition,
                    "key": self._key(one),
                    "count": one.count,
                    "error": one.error,
                }
                for one in found.top
            ],
        }

    def _key(self, one: HotKey) -> str:
        if self.records:
            text = as_text(one.key, KEY_CHARS_MAX)
            return f"{text}…" if one.cut and not text.endswith("…") else text
        return "#" + blake2b(one.key + one.digest, digest_size=NAME_BYTES, key=self._secret).hexdigest()


def without_keys(owner: OwnerSnapshot) -> OwnerSnapshot:
    """The same with no key in it."""
    return replace(owner, hot_keys=HotKeys())


def as_text(raw: bytes, chars_max: int, keep: str = "") -> str:
    """Bytes as text; what is no text, or steers what shows it, is escaped, but for the characters to keep."""
    text = raw.decode("utf-8", "backslashreplace")
    text = "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text
    )
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"

"""Which subscription a topic belongs to. Exactly one: an overlap is an error at start, or when a pattern first sees it.

The pattern dialect is Python's `re`, matched against the whole name. What librdkafka is told is decided in
`_client.settings`; a topic that librdkafka matches and this table does not is simply not ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.subscriptions import SubscriptionSettings


class Routing:
    """From topic to the index of its subscription. Owner thread only once running; the cache is its own."""

    __slots__ = ("_cache", "_exact", "_never", "_patterns")

    def __init__(self, subscriptions: Sequence[SubscriptionSettings]) -> None:
        self._exact: dict[str, int] = {}
        self._patterns: list[tuple[re.Pattern[str], int]] = []
        self._cache: dict[str, int | None] = {}
        # A dead letter consumed by the pattern that made it would go round for ever.
        self._never = {settings.dead_letter for settings in subscriptions if settings.dead_letter}
        for index, settings in enumerate(subscriptions):
            if settings.pattern is not None:
                self._patterns.append((re.compile(settings.pattern), index))
            for topic in settings.topics:
                if topic in self._exact:
                    owner = subscriptions[self._exact[topic]].name
                    raise ConfigError(
                        "topics", topic, f"a topic of one subscription only; {owner} has it already"
                    )
                self._exact[topic] = index
        for topic, index in self._exact.items():
            if topic in self._never:
                continue
            for pattern, other in self._patterns:
                if pattern.fullmatch(topic):
                    raise ConfigError(
                        "pattern",
                        pattern.pattern,
                        f"not to match {topic!r}, which {subscriptions[index].name} names (pattern of {subscriptions[other].name})",
                    )

    def subscription_of(self, topic: str) -> int | None:
        """Index of the subscription, None if the topic is nobody's; raises `ConfigError` if two patterns match it."""
        if topic in self._exact:
            return self._exact[topic]
        if topic not in self._cache:
            matches = [index for pattern, index in self._patterns if pattern.fullmatch(topic)]
            if topic in self._never:
                matches = []
            if len(matches) > 1:
                raise ConfigError("pattern", topic, "a topic that one pattern matches; several do")
            self._cache[topic] = matches[0] if matches else None
        return self._cache[topic]

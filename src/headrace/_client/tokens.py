"""The user's `oauth_cb`, listened to: why a client could not be made for want of a token.

Decides nothing about tokens. With an `oauth_cb` confluent-kafka's constructors wait ten seconds for the first token and
then fail; what the callback raised is lost on the way. The failure arrives as a SystemError where the `error_cb` ran while
it was already set, and else as a bare KafkaError, which is no exception: `except BaseException` lets it pass and a thread
dies of it (both seen with 2.16.1). Invariant: what leaves `made` is an exception.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar, final

from confluent_kafka import KafkaException

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@final
class TokenSource:
    """Stands in for the `oauth_cb` of one configuration, if it has one. Called on librdkafka's and the client's threads."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._callback: Callable[[Any], Any] | None = config.get("oauth_cb")
        # The last failure; replaced whole.
        self._raised: Exception | None = None
        if self._callback is not None:
            config["oauth_cb"] = self._ask

    @staticmethod
    def made(make: Callable[[], T]) -> T:
        """Make a client; whatever was raised that is no exception becomes a `KafkaException`."""
        try:
            return make()
        except BaseException:
            raise
        except:  # noqa: E722 - see the module's docstring
            raised: object = sys.exc_info()[1]
        # Not in the handler: there it would become the context of this one, which traceback cannot print.
        raise KafkaException(raised)

    def failure(self, error: Exception) -> str | None:
        """Why no token came, if that is why making the client failed with `error`; None if it is something else."""
        if self._callback is None or not isinstance(error, SystemError | KafkaException):
            return None
        if isinstance(error, KafkaException) and "OAuth" not in str(error):
            return None
        if self._raised is None:
            return "oauth_cb gave no token within 10 s"
        return f"oauth_cb raised {type(self._raised).__name__}: {self._raised}"

    def _ask(self, config: Any) -> Any:
        assert self._callback is not None
        try:
            token = self._callback(config)
        except Exception as error:
            self._raised = error
            raise
        self._raised = None
        return token

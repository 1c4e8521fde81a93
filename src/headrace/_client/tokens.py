"""The user's `oauth_cb`, listened to: why a client could not be made for want of a token.

Decides nothing about tokens. With an `oauth_cb` confluent-kafka's constructors wait ten seconds for the first token and
then fail; what the callback raised is lost on the way, and with an `error_cb` the failure arrives as a SystemError,
because that callback runs while the exception is already set (seen with 2.16.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from confluent_kafka import KafkaException

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class TokenSource:
    """Stands in for the `oauth_cb` of one configuration, if it has one. Called on librdkafka's and the client's threads."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._callback: Callable[[Any], Any] | None = config.get("oauth_cb")
        # The last failure; replaced whole.
        self._raised: Exception | None = None
        if self._callback is not None:
            config["oauth_cb"] = self._ask

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

"""Whether librdkafka accepts what it would be told, found out without a connection.

Decides nothing about settings: the client's own constructors judge, given no broker and none of the user's callbacks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, Producer

from headrace._client.settings import consumer_config, producer_config, refusal

if TYPE_CHECKING:
    from headrace._client.settings import ConnectionSettings


def check_accepted(settings: ConnectionSettings) -> None:
    """Raise `ConfigError` for a setting that the consumer or the producer refuses. Reads certificates, if there are any."""
    for client, config in ((Consumer, consumer_config(settings)), (Producer, producer_config(settings))):
        try:
            made = client(_unconnected(config))
        except (KafkaException, TypeError, ValueError, SystemError) as error:
            raise refusal(error, config) from None  # the cause's text may hold a secret
        if isinstance(made, Consumer):
            made.close()


def _unconnected(config: dict[str, Any]) -> dict[str, Any]:
    # Without brokers nothing connects. A token would be asked for, and a constructor waits a second after it came.
    kept = {key: value for key, value in config.items() if key != "bootstrap.servers" and not callable(value)}
    silent = logging.Logger("unheard")  # noqa: LOG001 - nobody else shall find it
    silent.addHandler(logging.NullHandler())
    return kept | {"logger": silent}

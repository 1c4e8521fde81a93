"""Kafka for Spark, in Python alone: `spark.read.format("headrace")`, batch and streaming.

`KafkaSource` is what Spark is given; it needs pyspark, and is loaded when it is first asked for. Spark finds it by itself
where Headrace is installed (`pyspark_headrace`). Importing this loads neither pyspark nor the client library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from headrace.errors import ExtraMissing

if TYPE_CHECKING:
    from headrace.spark.source import KafkaSource

__all__ = ["KafkaSource"]


def __getattr__(name: str) -> Any:
    if name != "KafkaSource":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module("headrace.spark.source").KafkaSource
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "pyspark":
            raise
        raise ExtraMissing("headrace.spark", "spark") from error

"""Where Spark looks for data sources: modules named pyspark_*, and in them `DefaultSource`. Holds nothing of its own."""

from headrace.spark.source import KafkaSource as DefaultSource

__all__ = ["DefaultSource"]

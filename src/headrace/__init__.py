"""Headrace: a Kafka consumer runtime for Python."""

"""Tests of the consumer pool, without Kafka."""

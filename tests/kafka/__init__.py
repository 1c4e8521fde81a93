"""Tests on a real Apache Kafka, given by the fixture `kafka`."""

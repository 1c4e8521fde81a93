"""The model of Kafka: each part alone, and groups of small consumers on it."""

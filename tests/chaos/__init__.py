"""Chaos on a real Kafka: seeded faults against member processes, an outside ledger, and an offline judge of it."""

"""A seeded simulation of whole consumer groups: production code, a model of Kafka, virtual time, every interleaving."""

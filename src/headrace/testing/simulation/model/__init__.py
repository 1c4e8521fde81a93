"""A model of Kafka for simulations: logs, groups, commits and the network between them and their clients."""

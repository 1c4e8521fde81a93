"""Runs handlers: on threads, on an event loop, or in worker processes; each is a `ports.Executor`.

Decides how records are started and how their outcomes are gathered. Refuses to know Kafka, and what the engine makes
of an outcome. Invariant of all: a submitted record is started at most once, and reported or taken back exactly once.
"""

"""Tests of the executors: what comes of each record that a worker was given."""

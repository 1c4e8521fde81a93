"""Tests of the data source for Spark that need no Spark."""

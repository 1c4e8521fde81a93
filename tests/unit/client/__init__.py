"""Tests of the client layer that need no broker."""

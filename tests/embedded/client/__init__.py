"""Tests of the client layer on the embedded broker."""

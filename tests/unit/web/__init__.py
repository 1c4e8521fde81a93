"""Tests of `headrace.web`, without a broker."""

"""Tests of `headrace.observe`, without a broker."""

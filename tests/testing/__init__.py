"""Tests of what Headrace ships for the tests of others."""

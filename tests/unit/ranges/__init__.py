"""Ranges: cutting, resolving, reading; each without a broker."""

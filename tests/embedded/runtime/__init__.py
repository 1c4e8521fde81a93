"""Tests of whole apps on the embedded broker."""

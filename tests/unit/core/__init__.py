"""Tests that need no broker and no network: pure code, and the source itself."""

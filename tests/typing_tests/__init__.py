"""Code as users write it, for type checkers: it must pass mypy strict and pyright strict, and is never run."""

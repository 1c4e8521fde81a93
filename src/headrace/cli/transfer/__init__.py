"""What `headrace copy` is made of: sources that know how far they are, and the course of a copy. No code."""

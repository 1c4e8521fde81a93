"""The simulator, and what it is made of."""

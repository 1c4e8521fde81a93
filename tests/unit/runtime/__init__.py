"""The parts around the owner loop, each alone."""

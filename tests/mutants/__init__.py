"""Bugs of real systems as patches, and the proof that the simulator catches each."""

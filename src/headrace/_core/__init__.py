"""The pure core: given what happened and what time it is, decides what to do.

Imports no clock, thread, socket, log or randomness; the import contracts hold that. The same code runs in
production, in unit tests and in the simulator.
"""

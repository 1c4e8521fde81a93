"""Assignment: strategies, their certificate, and the oracle that knows the best plan of a small group."""

"""Members of consumer groups that run as processes of their own, the outside ledger they write, and its verifier."""

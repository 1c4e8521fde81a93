"""What `headrace demo` is made of: a plan, members, a ledger of their own making, a stage, a view and a verdict.

The verdict trusts nothing that the runtime says of itself.
"""

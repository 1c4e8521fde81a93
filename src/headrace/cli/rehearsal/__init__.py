"""What `headrace rehearse` is made of: samples, members that run the user's app, a witness, a course, a verdict.

The verdict trusts nothing that the runtime says of itself, but where it says that it gave a record up.
"""

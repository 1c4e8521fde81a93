"""What `headrace failures` is made of: a table of acts, a stage for them, and one verdict for each.

An act plays one real failure in its naive form until it happens, then the same load on Headrace. The naive forms are
written as their authors wrote them; nothing here trusts what either side says of itself where it can be counted.
"""

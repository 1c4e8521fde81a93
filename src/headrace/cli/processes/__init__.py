"""`headrace run --processes N`: worker processes of one app, started, watched and replaced.

`policy` decides, `supervisor` does, `member` is the other side, in each worker process; `site` shows all as one.
"""

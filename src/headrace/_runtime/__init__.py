"""The runtime: one owner thread per connection, and what starts, feeds, watches and stops it."""

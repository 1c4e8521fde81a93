"""What `headrace read` is made of: moments, files that appear whole, writers of three formats, a progress line."""

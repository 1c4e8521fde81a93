"""`python -m headrace`: the command line where its script is not on the path."""

from __future__ import annotations

from headrace_command import main

if __name__ == "__main__":
    main()

"""The command line. Decides nothing: every command calls what the library offers."""

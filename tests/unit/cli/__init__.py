"""The command line without a broker: what is parsed, printed, refused and concluded."""

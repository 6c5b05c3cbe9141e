"""The command line: `adapters`."""

"""One script per promised number, each against its peer in the same run."""

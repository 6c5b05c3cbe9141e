"""What `make demo` runs: two real adapters through their whole life, on a real language model."""

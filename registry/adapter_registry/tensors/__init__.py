"""Arithmetic on weights: what adapters add to their base, and what is made of it."""

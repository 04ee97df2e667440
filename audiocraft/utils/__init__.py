"""The few helpers that have no better home."""

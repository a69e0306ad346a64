"""The search for parameters."""

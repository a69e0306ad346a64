"""Training in a software environment of its own."""

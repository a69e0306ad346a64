"""Rows to train on: read, encoded, weighted and laid out as a matrix."""

"""Benchmarks: `python -m tests.benchmarks [NAME] [--scale N]`."""

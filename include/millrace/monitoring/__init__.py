"""Monitoring: how the data and the model's success move after a release, and whether that asks for training."""

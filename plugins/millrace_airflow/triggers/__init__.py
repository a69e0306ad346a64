"""What waits in the triggerer, so that nothing waits on a worker."""

"""Training and tuning spread over a Ray cluster."""

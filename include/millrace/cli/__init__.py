"""`millrace …`: what a person types."""

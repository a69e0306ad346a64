"""Bringing a release into service: the pointer that names it, and the online service that loads and proves it."""

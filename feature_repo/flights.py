"""The domain `flights` for Feast's own tools: made of its YAML and of the use cases on it, nothing written twice."""

from millrace.features.feast_definition import load_definitions

globals().update(load_definitions("flights"))

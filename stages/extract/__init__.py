"""Canary extraction: complete the secrets of a model's training text from the model."""

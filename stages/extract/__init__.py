"""Canary extraction: complete the secret of a training text from the model, and rank it among all codes."""

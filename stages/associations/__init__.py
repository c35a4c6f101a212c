"""Associations that are planted in training texts by a known dose, and what they make of texts that are measured."""

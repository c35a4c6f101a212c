"""Differential privacy in training: exact per-example clipping at about the price of an ordinary step."""

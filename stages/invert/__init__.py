"""Gradient inversion: reconstruct the texts of a federation's clients from the updates that they send."""

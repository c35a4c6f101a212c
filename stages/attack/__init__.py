"""Attacks on trained models: membership inference by the loss."""

"""Attacks on trained models: membership inference."""

"""Audits of a guarantee: guess from a trained model which canaries it was trained on."""

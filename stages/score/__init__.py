"""Scores of trained models on the test split: utility, group fairness, counterfactual flips."""

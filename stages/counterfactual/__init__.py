"""Counterfactual texts: pairs of words (he, she) and texts in which each is swapped for its counterpart. No verb."""

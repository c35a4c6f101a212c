"""Who holds which training example: simulated clients, and the pool dealt into members and non-members."""

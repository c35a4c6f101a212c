"""What attack, audit, extract, invert and score share: how seeds are measured. No verb."""

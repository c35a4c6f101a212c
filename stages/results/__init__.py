"""What was measured, gathered: the metrics and verbs there are, the long table, means and intervals over seeds."""

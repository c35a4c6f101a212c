"""Central training: ordinary, and differentially private by DP-SGD."""

"""Federated training, simulated: a server, clients that hold a partition, rounds."""

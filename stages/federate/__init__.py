"""Federated training, simulated on one machine: a server, clients that hold a partition, rounds."""

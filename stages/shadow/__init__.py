"""Shadow models: a cell's training, repeated on random parts of the pool, for attacks that compare with them."""

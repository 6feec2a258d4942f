"""A folder of films to batches: catalog, splits, sources, the built-in phantoms."""

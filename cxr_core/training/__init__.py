"""A configuration to a trained bundle, in a process of its own, watched through the run store."""

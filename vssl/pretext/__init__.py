"""Pretext tasks: one paper per file, each a sampler, an objective and the `Task` that joins them."""

"""The training loop and what it needs. It knows no method by name."""

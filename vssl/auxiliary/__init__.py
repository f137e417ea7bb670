"""Auxiliary stages that come before the pretext task."""

"""Blocks used by two or more tasks."""

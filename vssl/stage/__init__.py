"""Stages: what they are (spec), where they live (store), and what they do (train, evaluate)."""

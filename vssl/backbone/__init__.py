"""Backbones: networks that turn a clip into one feature vector. One file per family."""

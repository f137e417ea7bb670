"""Protocols: how a pretrained backbone is judged on labelled videos."""

"""Mirrors of the stage folders in an experiment tracker."""

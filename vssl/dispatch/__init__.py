"""Where the stages of a forest run."""

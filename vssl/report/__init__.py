"""What a person sees: tables, plots, clip sheets."""

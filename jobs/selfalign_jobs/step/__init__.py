"""What every step works with: its context, progress and metrics, prepared tables, its gang, and how it ends."""

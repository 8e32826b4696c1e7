"""What a run leaves on disk, and the figures in it."""

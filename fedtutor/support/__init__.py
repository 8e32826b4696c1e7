"""What the core rests on and need not be read with it: a quiet TensorFlow, rows on disk, files."""

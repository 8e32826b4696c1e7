"""What the later notebooks are about; the core does not need any of it."""

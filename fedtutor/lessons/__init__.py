"""What the notebooks check: one module each, ``n04`` for notebook 04, found by its number."""

"""Download data sets: resumed if cut off, checked, and unpacked whole or not at all."""

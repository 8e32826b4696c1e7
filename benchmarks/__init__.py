"""Side by side with what a user would otherwise pick; `make bench` runs all of it."""

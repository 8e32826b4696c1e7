"""One module for each real data set with its traps, and folders of one's own."""

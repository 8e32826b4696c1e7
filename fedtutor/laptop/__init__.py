"""The course on somebody's own computer: whether it is fit for it, and a folder to learn in."""

"""Other hospitals: a model that can be used there, and what it is worth there."""

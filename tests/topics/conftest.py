"""For pytest, so that the tests below this folder can import ``toys``."""

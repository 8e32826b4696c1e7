"""For the tests below this folder, which import ``toys`` from here."""

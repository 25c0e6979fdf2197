"""What type checkers make of the public names; never run: see its two files."""

"""What is missing or off on this machine for a scale, and how to mend it (ours)."""

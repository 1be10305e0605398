"""A scale looked at from outside: what is missing (doctor), what it takes (plan), whether it holds (verify)."""

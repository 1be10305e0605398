"""The `gdpo` command."""

"""What this machine lacks for a scale, and how to fix it; `gdpo doctor`."""

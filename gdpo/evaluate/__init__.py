"""Scores: lm-eval asks, our graders judge, and each item's output and verdict is a row of a file."""

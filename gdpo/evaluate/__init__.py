"""Scores: lm-eval asks, our graders judge, and every item's output and verdict is kept."""

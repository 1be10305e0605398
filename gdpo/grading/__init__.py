"""Verdicts on what a model says: right, wrong or ungradable; a refusal; safe or unsafe."""

"""Whether a table follows from stored outputs, which are graded and scored again, and from records; `gdpo verify`."""

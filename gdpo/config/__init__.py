"""What a scale may say, as typed models, how it is read from YAML, and where its files are."""

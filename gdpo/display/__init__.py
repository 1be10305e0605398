"""What a user of the workflow sees while it runs."""

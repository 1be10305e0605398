"""Models: checkpoints, sampling, likelihoods of choices, a sentence encoder, and models at an endpoint."""

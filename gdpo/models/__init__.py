"""Models as they come and as they are asked: checkpoints, sampling, choices, a sentence encoder, an endpoint."""

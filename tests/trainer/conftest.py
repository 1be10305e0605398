"""What tests of the trainer share."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture
def warnings():
    """What transformers' logger says to a user, in order."""
    said = []

    class Listen(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    logger = logging.getLogger("gdpo")
    logger.addHandler(listener := Listen())
    yield said
    logger.removeHandler(listener)

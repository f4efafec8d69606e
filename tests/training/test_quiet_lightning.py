"""Lightning says nothing of its own."""

import logging

import pytest
from regression import HARDWARE

from gcl_custom.training.engine import engine
from gcl_custom.training.quiet_lightning import quiet_lightning


def test_lightning_says_nothing(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_lightning():
        engine(HARDWARE).launch(lambda fabric: logging.getLogger("lightning_fabric").info("a note"))
    assert not caplog.records
    assert not any(capfd.readouterr())

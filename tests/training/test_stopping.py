import multiprocessing
import os
import signal

import pytest

from gcl_custom.errors import Stopped
from gcl_custom.training.stopping import SIGNALS, StopRequests


def ask_twice(number: signal.Signals) -> None:
    with StopRequests() as asked:
        assert not asked
        os.kill(os.getpid(), number)
        assert asked
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_ends_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        ask_twice(number)
    assert stopped.value.signal == number
    assert signal.getsignal(number) is before


def waits(asked: StopRequests, begun: "multiprocessing.synchronize.Event") -> None:
    begun.set()
    while not asked:
        pass


def test_processes_that_were_started_see_what_the_first_one_noted() -> None:
    context = multiprocessing.get_context("spawn")
    with StopRequests(shared=True) as asked:
        begun = context.Event()
        other = context.Process(target=waits, args=(asked, begun))
        other.start()
        assert begun.wait(120)
        os.kill(os.getpid(), signal.SIGTERM)
        other.join(120)
    assert other.exitcode == 0

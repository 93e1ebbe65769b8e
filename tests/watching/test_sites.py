"""Which calls are still to be recorded, also in the child of a fork."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from attncheck.watching.sites import Sites


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_lock_that_another_thread_holds_at_a_fork_does_not_stop_the_child() -> None:
    sites = Sites(3)
    with sites._lock:  # in the child nobody will ever release it
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a child that waits for the lock dies of it
            sites.reopen()
            sites.passed(sys._getframe())
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

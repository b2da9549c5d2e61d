"""Whether memory grows, told apart from a peak that passes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bandit_router.errors import DemoError
from simulations.faults.process_memory import growth_over_half, python_memory_mb


def test_growth_is_that_of_the_second_half_and_a_peak_is_none() -> None:
    assert growth_over_half([10.0, 50.0, 90.0, *[100.0] * 4]) == 0.0
    assert growth_over_half([100.0] * 4 + [100.0, 180.0, 100.0, 100.0]) == 0.0
    # Of 100, 101, 102, 103, 104: 4 over the half's median of 102.
    rising = [float(value) for value in (96, 97, 98, 99, 100, 101, 102, 103, 104)]
    assert growth_over_half(rising) == pytest.approx(4.0 / 102.0)
    assert growth_over_half([100.0] * 10 + [103.0] * 4) > 0.02


def test_processes_of_the_same_interpreter_count_and_others_do_not() -> None:
    # Tests that ran before in this process may have left some of their own.
    before = len(python_memory_mb(os.getpid()))
    say_ready = "print('ready', flush=True); input()"
    others = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for command in ([sys.executable, "-c", say_ready], ["cat"])
    ]
    try:
        assert others[0].stdout is not None
        assert others[0].stdout.readline() == b"ready\n"
        own, *below = python_memory_mb(os.getpid())
        assert len(below) == before
        assert own > min(below) > 1.0
    finally:
        for process in others:
            process.communicate(b"\n")
    with pytest.raises(DemoError, match="has ended"):
        python_memory_mb(others[0].pid)

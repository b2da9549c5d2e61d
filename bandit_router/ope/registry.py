"""Every estimator by name. Adding one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from bandit_router.ope.clipped_ips import CLIPPED_IPS
from bandit_router.ope.contributions import Estimator
from bandit_router.ope.dm import DM
from bandit_router.ope.dr import DR
from bandit_router.ope.dr_os import DR_OS
from bandit_router.ope.ips import IPS
from bandit_router.ope.replay import REPLAY
from bandit_router.ope.sndr import SNDR
from bandit_router.ope.snips import SNIPS
from bandit_router.ope.switch_dr import SWITCH_DR

ESTIMATORS: Mapping[str, Estimator] = {
    estimator.name: estimator
    for estimator in (REPLAY, DM, IPS, CLIPPED_IPS, SNIPS, DR, SNDR, SWITCH_DR, DR_OS)
}

"""A real worker with the toy prover; OPGATE_TEST_PROVER holds its words as JSON."""

from __future__ import annotations

import json
import os

from tests.workers.shop import stub
from workers.config import Settings
from workers.task import make_worker_app

app = make_worker_app(
    Settings.load(require=("broker_url",)), prover=stub(*json.loads(os.environ["OPGATE_TEST_PROVER"]))
)

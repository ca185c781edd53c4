"""What `celery -A workers.celery_main` imports: the worker's app, from the settings of the environment."""

from __future__ import annotations

from workers.config import Settings
from workers.task import make_worker_app

app = make_worker_app(Settings.load(require=("broker_url",)))

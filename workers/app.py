"""The Celery app: one queue, messages with an id only, settings under which a job that runs twice is harmless.

Nothing of a job is in the broker: whatever it loses, repeats or holds back, the database and the sweeper know better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import Celery  # type: ignore[import-untyped]  # celery publishes no types
from kombu.exceptions import OperationalError

from verifier.errors import ServiceError
from workers.config import QUEUE

if TYPE_CHECKING:
    from workers.config import Settings
    from workers.store import Message

PROVE = "opgate.prove"
CANARY = "opgate.canary"
_SOCKET_SECONDS = 10
_IMPATIENT = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}


def make_app(settings: Settings) -> Celery:
    """The app for a broker, for sending and for working.

    Raises:
        ServiceError: W-config-missing where no broker is set.
    """
    if settings.broker_url is None:
        raise ServiceError("W-config-missing", "a setting is missing", where="OPGATE_BROKER_URL")
    limits = settings.limits
    transport: dict[str, float] = {"visibility_timeout": limits.visibility}
    if settings.broker_url.startswith("redis"):
        transport |= {"socket_timeout": _SOCKET_SECONDS, "socket_connect_timeout": _SOCKET_SECONDS}
    app = Celery("opgate", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_ignore_result=True,
        task_queues={QUEUE: {"exchange": QUEUE, "routing_key": QUEUE}},
        task_default_queue=QUEUE,
        task_create_missing_queues=False,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        task_reject_on_worker_lost=True,
        task_time_limit=limits.job,
        task_soft_time_limit=limits.soft,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_transport_options=transport,
        result_backend_transport_options={"visibility_timeout": limits.visibility},
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=_SOCKET_SECONDS,
        enable_utc=True,
    )
    return app


class CeleryBroker:
    """The app's sending side (`workers.ports.Broker`)."""

    def __init__(self, app: Celery) -> None:
        """Connect at the first use, and give up soon: the sweeper that sends also closes jobs, and must not wait."""
        app.conf.broker_transport_options = {**app.conf.broker_transport_options, **_IMPATIENT}
        self._app = app

    def send(self, message: Message) -> None:
        """Hand a message of the outbox over: the id of the job and nothing else."""
        self._send(PROVE, [str(message.job_id)], task_id=message.message_id)

    def send_canary(self, *, expires: float) -> None:
        """Send a canary that nobody takes after `expires` seconds."""
        self._send(CANARY, [], expires=expires)

    def depth(self) -> int:
        """Messages in the queue, those that a worker holds not counted."""
        try:
            with self._app.connection_for_read() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=_SOCKET_SECONDS)
                queue = self._app.amqp.queues[QUEUE].bind(connection.default_channel)
                return int(queue.queue_declare().message_count)
        except (OperationalError, OSError) as error:
            raise _broker_error(error) from error

    def _send(self, name: str, args: list[str], *, task_id: str | None = None, expires: float | None = None) -> None:
        try:
            self._app.send_task(name, args=args, task_id=task_id, queue=QUEUE, expires=expires, retry=False)
        except (OperationalError, OSError) as error:
            raise _broker_error(error) from error


def _broker_error(error: Exception) -> ServiceError:
    return ServiceError(
        "W-broker",
        "the broker does not answer",
        where="OPGATE_BROKER_URL",
        found=type(error).__name__,
        do="Look at the Redis or RabbitMQ server; nothing is lost, messages are sent again from the database",
    )

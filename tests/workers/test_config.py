"""Settings: valid ones, or a refusal that names the variable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.workers.shop import make_shop
from verifier.errors import ServiceError
from workers.app import make_app
from workers.config import QUEUE, Settings

ID = "0x" + "ab" * 32


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPGATE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("OPGATE_RPC_URL", "ftp://x", "W-config-url"),
        ("OPGATE_BROKER_URL", "localhost:6379", "W-config-url"),
        ("OPGATE_DATABASE_URL", "mysql://x", "W-config-url"),
        ("OPGATE_PAYEE", "0x12", "W-config-value"),
        ("OPGATE_ESCROW", "nobody", "W-config-value"),
        ("OPGATE_PRICE", "1.5", "W-config-value"),
        ("OPGATE_PRICE", "0", "W-config-price"),
        ("OPGATE_PRICES", '{"x": "1"}', "W-config-value"),
        ("OPGATE_JOB_SECONDS", "3", "W-config-job-seconds"),
        ("OPGATE_ATTEMPTS", "0", "W-config-attempts"),
        ("OPGATE_MAX_INPUT_BYTES", "99999999999", "W-config-value"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, code: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ServiceError) as refused:
        Settings.load()
    assert refused.value.code == code
    assert name in refused.value.where


def test_a_refusal_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap: a URL with a password in it stands in the log."""
    for name, value in (("OPGATE_BROKER_URL", "secret:hunter2@host"), ("OPGATE_PRICES", '{"hunter2"')):
        monkeypatch.setenv(name, value)
        with pytest.raises(ServiceError) as refused:
            Settings.load()
        assert "hunter2" not in str(refused.value)
        monkeypatch.delenv(name)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ServiceError, match="OPGATE_RPC_URL"):
        Settings.load(require=("rpc_url",))


def test_a_price_of_a_circuit_goes_before_the_general_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPGATE_PRICES", f'{{"{ID}": "7"}}')
    settings = Settings.load()
    assert list(settings.prices.values()) == [7]
    assert Settings.load().price is None


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "home")
    shop.store.close()
    shop.settings.provider_home.chmod(0o755)
    with pytest.raises(ServiceError, match="W-config-rights"):
        shop.settings.prepare_folders()


def test_celery_is_set_as_long_jobs_need_it() -> None:
    """Each of these has lost or doubled somebody's jobs; the values follow from T."""
    settings = Settings(broker_url="redis://127.0.0.1:1/0", job_seconds=100)
    conf = make_app(settings).conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.accept_content == ["json"]
    assert not conf.task_create_missing_queues
    assert list(conf.task_queues) == [QUEUE]
    assert (conf.task_soft_time_limit, conf.task_time_limit) == (90, 100)
    for options in (conf.broker_transport_options, conf.result_backend_transport_options):
        assert options["visibility_timeout"] > 100
    assert conf.worker_cancel_long_running_tasks_on_connection_loss

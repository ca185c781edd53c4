"""The provider's settings, from the environment (`OPGATE_…`): valid ones, or a refusal that names the variable.

Every time limit comes from `OPGATE_JOB_SECONDS` (`workers.limits`); nothing else here is a duration of work.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from verifier.errors import ServiceError
from verifier.statement.scalars import Address, Bytes32, Uint256
from workers.limits import Limits

PREFIX = "OPGATE_"
QUEUE = "opgate.prove"
"""The one queue that jobs and canaries go through."""

_BROKERS = ("redis", "rediss", "amqp", "amqps")
_CHAINS = ("http", "https")
_KEYS_ELSEWHERE = ("env:", "command:", "http:/", "https:/")
_DATABASES = ("sqlite", "postgresql", "postgresql+psycopg")


def _address(value: object) -> Address | None:
    return None if value is None else Address.from_json(value.lower() if isinstance(value, str) else value)


def _amount(value: object) -> Uint256 | None:
    return None if value is None else Uint256.from_json(value)


def _prices(value: object) -> dict[str, Uint256]:
    if not isinstance(value, dict):
        raise ValueError('expected a JSON object: {"0x<circuit_id>": "<wei>"}')
    return {str(Bytes32.from_json(name)): Uint256.from_json(amount) for name, amount in value.items()}


AddressField = Annotated[Address | None, BeforeValidator(_address)]
AmountField = Annotated[Uint256 | None, BeforeValidator(_amount)]
PricesField = Annotated[dict[str, Uint256], BeforeValidator(_prices)]


class Settings(BaseSettings):
    """What a provider can set. Amounts are wei as decimal strings, sizes are bytes.

    Attributes:
        home: the state folder; everything below it that is not named elsewhere has a fixed place.
        rpc_url: JSON-RPC of the chain.
        second_rpc_url: another's node of the same chain; what money moves by must be said by both that answer.
        max_fee: the dearest max fee per gas of a transaction, in wei.
        broker_url: Redis or RabbitMQ.
        database_url: SQLite or PostgreSQL; default `<home>/provider/jobs.sqlite`.
        archive: the provider's archive; default `<home>/provider/archive`.
        keyfile: the hot key that signs quotes, acceptances and deliveries, as `load_key` takes it: a file, `env:NAME`,
            `command:PROGRAM`, a signer's URL; default `<home>/provider/keys/provider`.
        payee: where the money goes; not the hot key's account, which anyone who enters this machine can empty.
        policy: TOML; default is a policy that takes what this provider itself sells on this chain.
        escrow: the escrow contract.
        token: the token that the escrow must hold; default is whatever it holds.
        price: for every circuit that `prices` does not name; without either a circuit is not sold.
        prices: per circuit.
        job_seconds: T, from which every other time limit is derived.
        attempts: how often a job is tried.
        max_open_jobs: jobs that may be accepted and not yet closed, or each payer could fill the table for nothing.
        max_pending_inputs: uploaded inputs of no job yet.
        max_input_bytes: size of one uploaded input.
        quote_seconds: how long a quote is good.
        requests_per_minute: for one client address, of the calls that cost work.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, arbitrary_types_allowed=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    home: Path = Path(".opgate")
    rpc_url: str | None = None
    second_rpc_url: str | None = None
    max_fee: AmountField = None
    broker_url: str | None = None
    database_url: str | None = None
    archive: Path | None = None
    keyfile: Path | None = None
    payee: AddressField = None
    policy: Path | None = None
    escrow: AddressField = None
    token: AddressField = None
    price: AmountField = None
    prices: PricesField = Field(default_factory=dict)
    job_seconds: int = 300
    attempts: int = 3
    max_open_jobs: int = Field(default=200, ge=1, le=100_000)
    max_pending_inputs: int = Field(default=64, ge=1, le=10_000)
    max_input_bytes: int = Field(default=1 << 20, ge=1024, le=16 << 20)
    quote_seconds: int = Field(default=900, ge=30, le=86_400)
    requests_per_minute: int = Field(default=120, ge=1, le=100_000)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Settings that are right alone and wrong together."""
        for name, value, schemes in (
            ("rpc_url", self.rpc_url, _CHAINS),
            ("second_rpc_url", self.second_rpc_url, _CHAINS),
            ("broker_url", self.broker_url, _BROKERS),
            ("database_url", self.database_url, _DATABASES),
        ):
            if value is not None and urlsplit(value).scheme not in schemes:
                raise ServiceError(
                    "W-config-url",
                    "the URL is of an unknown kind",
                    where=_variable(name),
                    expected=" or ".join(f"{scheme}://" for scheme in schemes),
                    found=f"{urlsplit(value).scheme or 'nothing'}://",
                )
        if any(amount == 0 for amount in (self.price, *self.prices.values())):
            raise ServiceError(
                "W-config-price", "a price is zero: the escrow funds no such job", where="OPGATE_PRICE, OPGATE_PRICES"
            )
        Limits.derive(self.job_seconds, attempts=self.attempts)
        return self

    @classmethod
    def load(cls, *, home: Path | None = None, require: tuple[str, ...] = ()) -> Self:
        """The settings of this process.

        Args:
            home: takes the place of `OPGATE_HOME`.
            require: names of settings without a default that the caller cannot do without.

        Raises:
            ServiceError: W-config-… where one is malformed, contradicts another, or is missing; it names the variable.
        """
        try:
            settings = cls(home=home) if home is not None else cls()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = str(first["loc"][0]) if first["loc"] else "settings"
            raise ServiceError(
                "W-config-value", "a setting cannot be read", where=_variable(name), found=str(first["msg"])[:200]
            ) from None
        except Exception as error:
            if isinstance(error, ServiceError):
                raise
            # A source that cannot be parsed at all: the message may hold its content, so only its kind is shown.
            raise ServiceError("W-config-value", "a setting cannot be read", found=str(error)[:200]) from None
        for name in require:
            if getattr(settings, name) is None:
                raise ServiceError(
                    "W-config-missing",
                    "a setting is missing",
                    where=_variable(name),
                    do=f"Set {_variable(name)}; opgate dev writes the values of its network to dev/network.json",
                )
        return settings

    @property
    def limits(self) -> Limits:
        """Every time limit, derived from `job_seconds`."""
        return Limits.derive(self.job_seconds, attempts=self.attempts)

    @property
    def provider_home(self) -> Path:
        """The provider's own folder."""
        return self.home / "provider"

    @property
    def circuits(self) -> Path:
        """The circuits that this provider can prove."""
        return self.provider_home / "circuits"

    @property
    def archive_folder(self) -> Path:
        """Where the archive is."""
        return self.archive or self.provider_home / "archive"

    @property
    def key_path(self) -> Path:
        """Where the hot key is."""
        return self.keyfile or self.provider_home / "keys" / "provider"

    @property
    def key_source(self) -> str:
        """The same as `verifier.payment.keys.load_key` takes it, for a process that may stand in another folder."""
        source = str(self.key_path)
        return source if source.startswith(_KEYS_ELSEWHERE) else str(self.key_path.absolute())

    @property
    def key_is_missing(self) -> bool:
        """Whether the key is to be a file, and there is none."""
        return not str(self.key_path).startswith(_KEYS_ELSEWHERE) and not self.key_path.exists()

    @property
    def database(self) -> str:
        """The database's URL, with the driver that is installed."""
        if self.database_url is None:
            return f"sqlite:///{(self.provider_home / 'jobs.sqlite').absolute()}"
        scheme, _, rest = self.database_url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme == "postgresql" else self.database_url

    def private_folder(self, circuit_id: Bytes32) -> Path:
        """Proving key, compiled model and SRS of a circuit: the model itself, never public."""
        return self.circuits / str(circuit_id) / "private"

    def price_of(self, circuit_id: Bytes32) -> Uint256 | None:
        """What one proof of the circuit costs here; None where it is not for sale."""
        return self.prices.get(str(circuit_id), self.price)

    def prepare_folders(self) -> None:
        """Make the provider's folders, for this user only."""
        for folder in (self.home, self.provider_home, self.circuits, self.provider_home / "work"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.stat(self.provider_home).st_mode & 0o077:  # noqa: PTH116 - one call, and the mode is what is asked
            raise ServiceError(
                "W-config-rights",
                "others can enter the provider's folder, which holds keys and inputs",
                where=str(self.provider_home),
                expected="mode 0700",
                do=f"Run: chmod 700 {self.provider_home}",
            )


def _variable(name: str) -> str:
    return PREFIX + name.upper()

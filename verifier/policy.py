"""What this payer or auditor accepts: chains and escrows, circuits and their assurance, whose records count, amounts.

A policy is a TOML file; its digest is the sha256 of its canonical JSON, so that a verdict can name it.
The default for everything that can be stricter is the stricter.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

import msgspec

from verifier.errors import VerifierError
from verifier.files import read_regular
from verifier.statement import canonical
from verifier.statement.eip712 import Domain
from verifier.statement.scalars import Address, Bytes32, Count, Measure, Text, Uint256
from verifier.statement.terms import JobTerms
from verifier.statement.verdict import Assurance, SrsKind

MAX_POLICY_BYTES = 1 << 20
ANY = "*"


class Escrow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An escrow that the reader trusts: where it stands, which token it holds, and optionally its code's hash."""

    chain_id: Count
    escrow: Address
    token: Address
    code_hash: Bytes32 | None = None


class Chains(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The escrows, and the chains where a development SRS is good enough since the money there is play money."""

    escrows: tuple[Escrow, ...]
    dev_chains: tuple[Count, ...] = ()


class CircuitRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of one circuit, or under the name ``*`` of any other.

    `max_error` and `min_agreement` ask for a fidelity certificate by a key in `records.owners`. `max_acceptance_error`
    asks for one with an acceptance set, by a key in `records.owners` or `records.keys`: against quantisation backdoors
    an own key is best, since an owner chooses the set that it likes (`opgate circuit accept`). `owners` asks that one
    of them attested this circuit, whatever the assurance: a rebuild shows that code is some model, not whose. `srs`
    lists the kinds taken; a development SRS is taken only on `dev_chains` besides. Absent, neither is asked.
    """

    assurance: Assurance = "rebuilt"
    max_error: Measure | None = None
    min_agreement: Measure | None = None
    min_samples: Count = Count(1)
    visibility: tuple[Literal["public", "hashed"], ...] = ("public", "hashed")
    ezkl_versions: tuple[Text, ...] = (Text("23.0.5"),)
    max_acceptance_error: Measure | None = None
    min_acceptance_samples: Count | None = None
    owners: tuple[Address, ...] | None = None
    srs: tuple[SrsKind, ...] | None = None


class Records(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose word counts: `keys` for rebuilds, `owners` for attestations and fidelity certificates."""

    keys: tuple[Address, ...] = ()
    owners: tuple[Address, ...] = ()


class Providers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The providers to deal with; an empty list means any, since a proof needs no trust in who made it."""

    allowed: tuple[Address, ...] = ()


class Depth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs of `amount` wei or more are released only with `blocks` blocks on top of their funding."""

    amount: Uint256
    blocks: Count


class Amounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Caps in wei, None is no cap: of one job, of all jobs with one provider within a day, of all jobs within a day.

    `depths` says how final a funding must be for its amount; the deepest that applies counts.
    """

    per_job: Uint256 | None = None
    per_provider: Uint256 | None = None
    per_day: Uint256 | None = None
    depths: tuple[Depth, ...] | None = None

    def blocks_for(self, amount: int) -> int:
        """How many blocks must stand on top of the funding of a job of so many wei."""
        return max((int(depth.blocks) for depth in self.depths or () if amount >= depth.amount), default=0)


class Opinions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other verifiers whose opinion must be there and agree (step 8)."""

    required: tuple[Text, ...] = ()


class Policy(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/policy/1"
):
    """Everything that a verdict depends on beside bundle and circuit."""

    chains: Chains
    circuits: dict[str, CircuitRule] = msgspec.field(default_factory=lambda: {ANY: CircuitRule()})
    records: Records = Records()
    providers: Providers = Providers()
    amounts: Amounts = Amounts()
    opinions: Opinions = Opinions()

    def __post_init__(self) -> None:
        """A circuit is named by its id or by ``*``."""
        for name in self.circuits:
            if name != ANY:
                Bytes32.from_json(name)

    @property
    def digest(self) -> Bytes32:
        """The sha256 of the canonical JSON."""
        return canonical.digest(self)

    @classmethod
    def from_toml(cls, text: str, *, where: str = "policy") -> Self:
        """The policy of a TOML text; V0-policy where it is no TOML, V0-schema where it is no policy."""
        try:
            value = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise VerifierError("V0-policy", "the policy is no TOML", where=where, found=str(error)[:200]) from error
        return canonical.from_builtins(cls, value, where=where)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The policy of a TOML file, or of the canonical JSON that an archive keeps (``.json``)."""
        raw = read_regular(path, limit=MAX_POLICY_BYTES)
        if path.suffix == ".json":
            return canonical.decode(cls, raw, where=str(path), complete=False)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise VerifierError("V0-policy", "the policy is no UTF-8", where=str(path), found=str(error)) from error
        return cls.from_toml(text, where=str(path))

    @classmethod
    def of_provider(cls, domain: Domain, terms: JobTerms) -> Self:
        """By which a provider judges its own work: the escrow and token that it accepted the job for, any assurance.

        What a circuit computes is the payer's question; the provider's is whether the escrow would take this proof.
        """
        escrow = Escrow(chain_id=domain.chain_id, escrow=domain.verifying_contract, token=terms.token)
        return cls(
            chains=Chains(escrows=(escrow,), dev_chains=(domain.chain_id,)),
            circuits={ANY: CircuitRule(assurance="unattested")},
        )

    def rule_for(self, circuit_id: Bytes32) -> CircuitRule | None:
        """The rule of a circuit, or of any; None where the policy does not take the circuit."""
        return self.circuits.get(str(circuit_id)) or self.circuits.get(ANY)

    def escrow_at(self, chain_id: int, escrow: Address) -> Escrow | None:
        """The trusted escrow at an address of a chain, if it is one."""
        return next((e for e in self.chains.escrows if (e.chain_id, e.escrow) == (chain_id, escrow)), None)

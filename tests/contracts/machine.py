"""A machine that calls the escrow in every order, beside a model that says what each call may do.

The model knows nothing of the contract but its rules: for each call it says whether the call has to succeed, may only
fail, or may do either (a token that misbehaves); then every state and every balance must be what the model says. So the
ten invariants of the escrow are held after each step:

1 balance >= sum of FUNDED (here: exactly it) · 2 a job leaves NONE once and FUNDED once · 3 nobody's tokens leave
without its word on this job and the provider's · 4 the whole amount, to the payee or the payer only · 5 release before
the deadline, reclaim from it on · 6 terms with one field changed are another job · 7 a proof pays only where limbs,
input, lengths, code and answer are right · 8 no call from inside another · 9 reclaim depends on nobody but the token ·
10 the token stays what it was.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.contracts.conftest import VERIFIERS, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contracts.revm import RevmWorld

NONE, FUNDED, RELEASED, RECLAIMED, DECLINED, CANCELLED = range(6)
HONEST = "accept"
KINDS = [HONEST] * 14 + ["reject", "two", "31-bytes", "64-bytes", "33-bytes", "nothing", "reverts-with-1", "burns-gas"]
"""Of verifiers; one that never says 1 in 32 bytes pays nobody."""
TRICKS = [""] * 9
TRICKS += ["no-move", "says-false", "fee", "fee-on-top", "gift", "paused", "reenter", "blacklist", "silent"]
CERTAIN = {"", "silent", "reenter"}
"""Tricks under which what is right has to succeed all the same."""
AMOUNTS = [1, 3, 10**18]
PARTIES = ["payer", "provider", "payee", "stranger"]
PEOPLE = st.sampled_from(PARTIES)
SHOWN = b"\x1a" * 32
EDGES = st.sampled_from([None] * 5 + [-1, 0])
"""Seconds from a job's deadline, to which time goes on before a call; None: no time passes."""


@dataclass
class Job:
    """What the model knows of a job: its terms, where it stands, and which words were given on it."""

    terms: dict[str, Any]
    kind: str
    wallet: bool
    state: int = NONE
    nonce: int = 0
    code_kept: bool = True
    tampered: list[dict[str, Any]] = field(default_factory=list)


class EscrowMachine(RuleBasedStateMachine):
    """One escrow on a token that may misbehave, a payer with a key and one that is a wallet contract."""

    world: ClassVar[Callable[[], RevmWorld]]
    steps: ClassVar[int] = 0
    outcomes: ClassVar[dict[str, int]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.w = type(self).world()
        self.jobs: list[Job] = []
        self.salts = itertools.count(1)
        self.trick = ""
        self.target = ""

    @initialize()
    def start(self) -> None:
        self.people = {name: self.w.keys[name].address for name in PARTIES} | {"wallet": self.w.wallet.address}
        self.balances = {name: self.w.balance(address) for name, address in self.people.items()}

    # --- what the rules share

    def address(self, name: str) -> str:
        return self.people[name]

    def owner(self, job: Job) -> str:
        return "wallet" if job.wallet else "payer"

    def pick(self, at: int) -> Job:
        return self.jobs[-1 - at % len(self.jobs)]

    def at_edge(self, at: int, edge: int | None) -> Job:
        job = self.pick(at)
        if edge is not None:
            self.w.at(max(self.w.now, job.terms["deadline"] + edge))
        return job

    def honest_now(self, *touched: str) -> bool:
        """Whether the token does now what it should for these accounts."""
        return self.trick in CERTAIN or (self.trick == "blacklist" and self.target not in touched)

    def word(self, job: Job, asked: bytes, right: bool, key_signature: bytes) -> bytes:
        """The payer's signature: its key's, or what its wallet was told to approve; or nothing that holds."""
        if not job.wallet:
            return key_signature
        if right:
            assert self.w.send("approve_digest", asked, b"wallet", to=self.w.wallet).reason is None
        return b"wallet" if right else b"not approved"

    def consent(self, job: Job, right: bool) -> bytes:
        other = self.w.terms(salt=b"\xee" * 32)
        signature = b"" if job.wallet else self.w.consent(job.terms if right else other)
        return self.word(job, self.w.job_id(job.terms), right, signature)

    def release_word(self, job: Job, right: bool) -> bytes:
        message = {"job_id": self.w.job_id(job.terms), "instances_hash": SHOWN}
        signature = b"" if job.wallet else self.w.release_sig(job.terms, SHOWN, by="payer" if right else "provider")
        return self.word(job, self.w.escrow_digest("Release", message), right, signature)

    def fundable(self, job: Job) -> bool:
        return job.state == NONE and self.w.now < job.terms["fund_by"] and job.code_kept

    def releasable(self, job: Job) -> bool:
        return job.state == FUNDED and self.w.now < job.terms["deadline"]

    def judge(self, verb: str, done: bool, *, allowed: bool, certain: bool) -> bool:
        """Compare what happened with what the model says."""
        type(self).outcomes[f"{verb} {'done' if done else 'refused'}"] = (
            self.outcomes.get(f"{verb} {'done' if done else 'refused'}", 0) + 1
        )
        assert allowed or not done, f"{verb} succeeded, and nothing allows it"
        assert done or not (allowed and certain), f"{verb} failed, and it has to succeed"
        return done

    def opened(self, job: Job) -> None:
        job.state = FUNDED
        self.balances[self.owner(job)] -= job.terms["amount"]

    def closed(self, job: Job, state: int) -> None:
        job.state = state
        to = "payee" if state == RELEASED else self.owner(job)
        # A refund is not held up by a token that charges or adds something on the payer's side.
        change = {"fee": -1, "gift": 1}.get(self.trick, 0) if state != RELEASED else 0
        self.balances[to] += job.terms["amount"] + change

    # --- rules

    @precondition(lambda self: len(self.jobs) < 15)
    @rule(
        kind=st.sampled_from(KINDS),
        amount=st.sampled_from(AMOUNTS),
        fund_in=st.integers(5, 40),
        prove_in=st.integers(1, 40),
        wallet=st.booleans(),
        funded=st.sampled_from(["by allowance", "by allowance", "by Permit2", "not yet"]),
    )
    def draw_up(self, *, kind: str, amount: int, fund_in: int, prove_in: int, wallet: bool, funded: str) -> None:
        """Terms of a new job, which its payer funds at once or not yet."""
        fund_by = self.w.now + fund_in
        salt = next(self.salts).to_bytes(32)
        # A verifier of its own for each job, so that its code can vanish for this job alone.
        code = bytes.fromhex(VERIFIERS[kind]) + b"\xfe" + salt
        terms = self.w.terms(
            rule={"verifier": self.w.code(code), "gas_cap": 100_000},
            amount=amount,
            payer=self.address("wallet" if wallet else "payer"),
            fund_by=fund_by,
            deadline=fund_by + prove_in,
            salt=salt,
        )
        self.jobs.append(Job(terms, kind, wallet))
        if funded == "by allowance":
            self.fund_job(self.jobs[-1], by="stranger", accepted=True, consented=True)
        elif funded == "by Permit2":
            self.permit2_job(self.jobs[-1], by="stranger", accepted=True, changed="")

    @precondition(lambda self: self.jobs)
    @rule(at=st.integers(0, 4), by=PEOPLE, accepted=st.sampled_from([True] * 3 + [False]), consented=st.booleans())
    def fund(self, at: int, by: str, accepted: bool, consented: bool) -> None:
        self.fund_job(self.pick(at), by, accepted=accepted, consented=consented)

    def fund_job(self, job: Job, by: str, *, accepted: bool, consented: bool) -> None:
        acceptance = self.w.acceptance(job.terms, by="provider" if accepted else "stranger")
        sent = self.w.send("fund", job.terms, acceptance, self.consent(job, consented), by=self.address(by))
        allowed = self.fundable(job) and accepted and (consented or by == self.owner(job))
        certain = self.honest_now(self.owner(job))
        if self.judge("fund", sent.reason is None, allowed=allowed, certain=certain):
            self.opened(job)

    @precondition(lambda self: self.jobs)
    @rule(at=st.integers(0, 4), by=PEOPLE, accepted=st.booleans(), changed=st.sampled_from(["", "", "payee", "amount"]))
    def fund_by_permit2(self, at: int, by: str, accepted: bool, changed: str) -> None:
        self.permit2_job(self.pick(at), by, accepted=accepted, changed=changed)

    def permit2_job(self, job: Job, by: str, *, accepted: bool, changed: str) -> None:
        """The payer signs the terms as witness; whoever relays may bring others."""
        acceptance = self.w.acceptance(job.terms, by="provider" if accepted else "stranger")
        signed = job.terms | {changed: self.address("stranger") if changed == "payee" else 7} if changed else job.terms
        job.nonce += 1
        nonce = int.from_bytes(job.terms["salt"]) * 1000 + job.nonce
        asked = digest(self.w.typed_permit2(job.terms, nonce))
        word = self.word(job, asked, not changed, self.w.permit2(signed, nonce))
        sent = self.w.send("fund_with_permit2", job.terms, acceptance, nonce, word, by=self.address(by))
        allowed = self.fundable(job) and accepted and not changed
        done = sent.reason is None
        if self.judge("fund_with_permit2", done, allowed=allowed, certain=self.honest_now(self.owner(job))):
            self.opened(job)

    @precondition(lambda self: len(self.jobs) > 1)
    @rule(at=st.lists(st.integers(0, 4), min_size=1, max_size=3), right=st.lists(st.booleans(), min_size=3, max_size=3))
    def fund_many(self, at: list[int], right: list[bool]) -> None:
        jobs = [self.pick(each) for each in at]
        words = [(self.w.acceptance(job.terms), self.consent(job, ok)) for job, ok in zip(jobs, right, strict=False)]
        sent = self.w.fund_many([(job.terms, *word) for job, word in zip(jobs, words, strict=True)])
        assert sent.reason is None, "one item blocked a batch"
        for job, ok, done in zip(jobs, right, sent.done, strict=False):
            allowed = self.fundable(job) and ok
            if self.judge("fund_many", done, allowed=allowed, certain=self.honest_now(self.owner(job))):
                self.opened(job)

    @precondition(lambda self: self.jobs)
    @rule(at=st.integers(0, 4), by=PEOPLE, right=st.sampled_from([True, True, False]), edge=EDGES)
    def release(self, at: int, by: str, right: bool, edge: int | None) -> None:
        job = self.at_edge(at, edge)
        sent = self.w.send("release", job.terms, SHOWN, self.release_word(job, right), by=self.address(by))
        allowed = self.releasable(job) and right
        if self.judge("release", sent.reason is None, allowed=allowed, certain=self.honest_now("payee")):
            self.closed(job, RELEASED)

    @precondition(lambda self: len(self.jobs) > 1)
    @rule(at=st.lists(st.integers(0, 4), min_size=1, max_size=3), right=st.lists(st.booleans(), min_size=3, max_size=3))
    def release_many(self, at: list[int], right: list[bool]) -> None:
        jobs = [self.pick(each) for each in at]
        words = [self.release_word(job, ok) for job, ok in zip(jobs, right, strict=False)]
        sent = self.w.release_many([(job.terms, SHOWN, word) for job, word in zip(jobs, words, strict=True)])
        assert sent.reason is None, "one item blocked a batch"
        for job, ok, done in zip(jobs, right, sent.done, strict=False):
            allowed = self.releasable(job) and ok
            if self.judge("release_many", done, allowed=allowed, certain=self.honest_now("payee")):
                self.closed(job, RELEASED)

    @precondition(lambda self: self.jobs)
    @rule(
        at=st.integers(0, 4),
        by=PEOPLE,
        fault=st.sampled_from(
            [""] * 6 + ["other-job", "high-limb", "input", "longer", "shorter", "proof-longer", "head"]
        ),
        edge=EDGES,
    )
    def prove(self, at: int, by: str, fault: str, edge: int | None) -> None:
        job = self.at_edge(at, edge)
        call = self._call(job, fault)
        sent = self.w.send("release_by_proof", job.terms, call, by=self.address(by))
        allowed = self.releasable(job) and not fault and job.kind == HONEST and job.code_kept
        if self.judge("release_by_proof", sent.reason is None, allowed=allowed, certain=self.honest_now("payee")):
            self.closed(job, RELEASED)

    def _call(self, job: Job, fault: str) -> bytes:
        words = self.w.instances(job.terms)
        start = job.terms["rule"]["job_offset"]
        if fault == "other-job":
            words[start : start + 11] = self.w.instances(self.w.terms(salt=b"\xdd" * 32))[start : start + 11]
        if fault == "high-limb":  # only the last of the eleven, which holds 16 bits
            words[start + 10] ^= 1
        if fault == "input":
            words[0] += 1
        if fault == "longer":
            words.append(5)
        if fault == "shorter":
            words.pop()
        proof = bytes(96) if fault == "proof-longer" else None
        call = self.w.call(job.terms, words, proof)
        return b"\x1e\x8e\x1e\x14" + call[4:] if fault == "head" else call

    @precondition(lambda self: self.jobs)
    @rule(at=st.integers(0, 4), by=st.sampled_from(["provider", "payer", "provider", "stranger"]))
    def decline(self, at: int, by: str) -> None:
        job = self.pick(at)
        sent = self.w.send("decline", job.terms, by=self.address(by))
        allowed = job.state == FUNDED and by == "provider"
        if self.judge("decline", sent.reason is None, allowed=allowed, certain=self.pays_back(job)):
            self.closed(job, DECLINED)

    @precondition(lambda self: self.jobs)
    @rule(at=st.integers(0, 4), by=PEOPLE, edge=st.sampled_from([0, -1, 0]))
    def reclaim(self, at: int, by: str, edge: int) -> None:
        """Also where the verifier's code is gone: it depends on nobody but the token."""
        job = self.at_edge(at, edge)
        sent = self.w.send("reclaim", job.terms, by=self.address(by))
        allowed = job.state == FUNDED and self.w.now >= job.terms["deadline"]
        if self.judge("reclaim", sent.reason is None, allowed=allowed, certain=self.pays_back(job)):
            self.closed(job, RECLAIMED)

    def pays_back(self, job: Job) -> bool:
        return self.honest_now(self.owner(job))

    @precondition(lambda self: self.jobs)
    @rule(at=st.integers(0, 4), by=PEOPLE, owner=st.booleans())
    def cancel(self, at: int, by: str, owner: bool) -> None:
        job = self.pick(at)
        by = self.owner(job) if owner else by
        sent = self.w.send("cancel", job.terms, by=self.address(by))
        allowed = job.state == NONE and by == self.owner(job)
        if self.judge("cancel", sent.reason is None, allowed=allowed, certain=True):
            job.state = CANCELLED

    @precondition(lambda self: self.jobs)
    @rule(
        at=st.integers(0, 4),
        name=st.sampled_from(["payee", "amount", "deadline", "payer", "provider"]),
        verb=st.sampled_from(["decline", "reclaim", "release_by_proof"]),
    )
    def tamper(self, at: int, name: str, verb: str) -> None:
        """One field of a known job's terms changed: nothing may be acted on that is not under job_id."""
        job = self.pick(at)
        other: dict[str, Any] = {"amount": job.terms["amount"] + 1, "deadline": 1}
        changed = job.terms | {name: other.get(name, self.address("stranger"))}
        proof = (self.w.call(job.terms),) if verb == "release_by_proof" else ()
        sent = self.w.send(verb, changed, *proof, by=changed["provider"])
        self.judge("tampered", sent.reason is None, allowed=False, certain=False)

    @precondition(lambda self: self.jobs)
    @rule(at=st.integers(0, 4), by=PEOPLE)
    def call_an_item(self, at: int, by: str) -> None:
        """The inner calls of the batches, from outside."""
        job = self.pick(at)
        words = self.w.acceptance(job.terms), self.consent(job, right=True)
        for verb, arguments in (
            ("fund_item", words),
            ("release_item", (SHOWN, self.release_word(job, right=True), self.address(by))),
        ):
            sent = self.w.send(verb, job.terms, *arguments, by=self.address(by))
            self.judge(verb, sent.reason is None, allowed=False, certain=False)

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.w.at(self.w.now + seconds)

    @precondition(lambda self: self.jobs)
    @rule(at=st.integers(0, 4), offset=st.sampled_from([-1, 0]))
    def go_to_the_end_of_funding(self, at: int, offset: int) -> None:
        self.w.at(max(self.w.now, self.pick(at).terms["fund_by"] + offset))

    @precondition(lambda self: self.jobs)
    @rule(
        trick=st.sampled_from(TRICKS),
        whom=st.sampled_from(["payee", "payer", "wallet"]),
        at=st.integers(0, 4),
        verb=st.sampled_from(["fund", "release_by_proof", "decline", "reclaim", "release_item"]),
    )
    def the_token_turns(self, trick: str, whom: str, at: int, verb: str) -> None:
        job = self.pick(at)
        self.trick, self.target = trick, whom
        payloads = {
            "fund": lambda: (self.w.acceptance(job.terms), self.consent(job, right=True)),
            "release_by_proof": lambda: (self.w.call(job.terms),),
            "release_item": lambda: (SHOWN, self.release_word(job, right=True), self.address("stranger")),
        }
        payload = b""
        if trick == "reenter":
            payload = self.w.payload(verb, job.terms, *payloads.get(verb, tuple)())
        at_whom = self.w.escrow.address if trick == "reenter" else self.address(whom)
        assert self.w.send("misbehave", trick, at_whom, payload, to=self.w.token).reason is None

    @precondition(lambda self: self.jobs)
    @rule(at=st.integers(0, 4), code=st.sampled_from([b"", bytes.fromhex(VERIFIERS[HONEST])]))
    def the_verifiers_code_changes(self, at: int, code: bytes) -> None:
        job = self.pick(at)
        self.w.set_code(job.terms["rule"]["verifier"], code)
        job.code_kept = False

    # --- invariants

    @invariant()
    def the_books_are_the_models(self) -> None:
        type(self).steps += 1
        locked = sum(job.terms["amount"] for job in self.jobs if job.state == FUNDED)
        assert self.w.balance(self.w.escrow.address) == locked, "the escrow holds something else than what is FUNDED"
        for name, address in self.people.items():
            assert self.w.balance(address) == self.balances[name], f"{name} holds something else"

    @invariant()
    def the_states_are_the_models(self) -> None:
        for job in self.jobs:
            assert self.w.state(job.terms) == job.state, "a job moved where no call leads"

    @invariant()
    def nothing_was_entered_again(self) -> None:
        assert not self.w.read(self.w.token, "reentered"), "a call was made from inside another"

    @invariant()
    def the_token_is_what_it_was(self) -> None:
        assert self.w.read(self.w.escrow, "TOKEN") == self.w.token.address.lower()

"""A machine that calls the escrow in every order, beside a model that says what each call may do.

The model knows nothing of the contract but its rules: for each call it says whether the call has to succeed, may only
fail, or may do either (a token that misbehaves); then every state and every balance must be what the model says. So the
ten invariants of the escrow are held after each step:

1 balance >= sum of FUNDED (here: exactly it) · 2 a job leaves NONE once and FUNDED once · 3 nobody's tokens leave
without its word on this job and the provider's · 4 the whole amount, to the payee or the payer only · 5 release before
the deadline, reclaim from it on · 6 terms with one field changed are another job · 7 a proof pays only where limbs,
input, lengths, code and answer are right · 8 no call from inside another · 9 reclaim depends on nobody but the token ·
10 the token stays what it was.

A random walk seldom comes to the one call that a bug lets through, so some rules make all the calls of a kind in one
step: every false proof, every false word, every trick of the token.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.contracts import forgeries
from tests.contracts.conftest import BIG, VERIFIERS, Sent, digest
from tests.contracts.forgeries import ACCEPTANCES, CONSENTS, PERMITS2, RELEASES
from tests.contracts.jobs import (
    AT,
    CANCELLED,
    CERTAIN,
    CHEATS,
    DECLINED,
    FUNDED,
    HONEST,
    NEW,
    NONE,
    PARTIES,
    PEOPLE,
    RECLAIMED,
    RELEASED,
    SHOWN,
    TRICKS,
    Job,
    NewJob,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contracts.revm import RevmWorld


class EscrowMachine(RuleBasedStateMachine):
    """One escrow on a token that may misbehave, a payer with a key and one that is a wallet contract."""

    world: ClassVar[Callable[[], RevmWorld]]
    steps: ClassVar[int] = 0
    outcomes: ClassVar[dict[str, int]] = {}
    found: ClassVar[list[str]] = []
    """The first thing that was not as the model says, and after how many steps."""

    def __init__(self) -> None:
        super().__init__()
        self.w = type(self).world()
        self.jobs: list[Job] = []
        self.salts = itertools.count(1)
        self.trick = ""
        self.target = "payer"
        self.used: dict[str, int] = {}
        """The nonce at Permit2 that each payer used last."""

    @initialize(jobs=st.lists(NEW, min_size=3, max_size=5))
    def start(self, jobs: list[NewJob]) -> None:
        """Some jobs from the beginning: Hypothesis leaves out any rule for whole runs, also the one that makes jobs."""
        self.people = {name: self.w.keys[name].address for name in PARTIES} | {"wallet": self.w.wallet.address}
        self.balances = {name: self.w.balance(address) for name, address in self.people.items()}
        for job in jobs:
            self.new_job(job)

    # --- what the rules share

    def address(self, name: str) -> str:
        return self.people[name]

    def owner(self, job: Job) -> str:
        return "wallet" if job.wallet else "payer"

    def pick(self, at: int, *wanted: int) -> Job:
        """One of the jobs; for an `at` below 8 one in a wanted state and in time, where there is one."""
        end = "fund_by" if NONE in wanted else "deadline"
        fit = [job for job in self.jobs if at < 8 and job.state in wanted and self.w.now < job.terms[end]]
        return (fit or self.jobs)[-1 - at % len(fit or self.jobs)]

    def hold(self, fact: bool, otherwise: str) -> None:
        if not fact:
            type(self).found = type(self).found or [otherwise, str(type(self).steps)]
            raise AssertionError(otherwise)

    def honest_now(self, *touched: str) -> bool:
        """Whether the token does now what it should for these accounts."""
        return self.trick in CERTAIN or (self.trick == "blacklist" and self.target not in touched)

    def word(self, job: Job, asked: bytes, forgery: str, key_signature: bytes) -> bytes:
        """The payer's signature: its key's, or what its wallet was told to approve; or nothing that holds."""
        if not job.wallet:
            return key_signature
        if forgery:
            return b"not approved"
        assert self.w.send("approve_digest", asked, b"wallet", to=self.w.wallet).reason is None
        return b"wallet"

    def consent(self, job: Job, forgery: str) -> bytes:
        signature = b"" if job.wallet else forgeries.consent(self.w, job.terms, forgery)
        return self.word(job, self.w.job_id(job.terms), forgery, signature)

    def release_word(self, job: Job, forgery: str) -> bytes:
        message = {"job_id": self.w.job_id(job.terms), "instances_hash": SHOWN}
        signature = b"" if job.wallet else forgeries.release(self.w, job.terms, SHOWN, forgery)
        return self.word(job, self.w.escrow_digest("Release", message), forgery, signature)

    def turn(self, trick: str, target: str, payload: bytes = b"") -> None:
        """Make the token play a trick from now on."""
        self.trick, self.target = trick, target
        at = self.w.escrow.address if trick == "reenter" else self.address(target)
        assert self.w.send("misbehave", trick, at, payload, to=self.w.token).reason is None

    def fundable(self, job: Job) -> bool:
        return job.state == NONE and self.w.now < job.terms["fund_by"] and job.code_kept

    def releasable(self, job: Job) -> bool:
        return job.state == FUNDED and self.w.now < job.terms["deadline"]

    def judge(self, verb: str, done: bool, *, allowed: bool, certain: bool) -> bool:
        """Compare what happened with what the model says."""
        type(self).outcomes[f"{verb} {'done' if done else 'refused'}"] = (
            self.outcomes.get(f"{verb} {'done' if done else 'refused'}", 0) + 1
        )
        self.hold(allowed or not done, f"{verb} succeeded, and nothing allows it")
        self.hold(done or not (allowed and certain), f"{verb} failed, and it has to succeed")
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
    @rule(job=NEW)
    def draw_up(self, job: NewJob) -> None:
        self.new_job(job)

    def new_job(self, new: NewJob) -> None:
        """Terms of a new job, which its payer funds at once or not yet."""
        fund_by = self.w.now + new.fund_in
        salt = next(self.salts).to_bytes(32)
        # A verifier of its own for each job, so that its code can vanish for this job alone.
        code = bytes.fromhex(VERIFIERS[new.kind]) + b"\xfe" + salt
        terms = self.w.terms(
            rule={"verifier": self.w.code(code), "gas_cap": 100_000},
            amount=new.amount,
            payer=self.address("wallet" if new.wallet else "payer"),
            fund_by=fund_by,
            deadline=fund_by + new.prove_in,
            salt=salt,
        )
        self.jobs.append(Job(terms, new.kind, new.wallet))
        if new.funded == "by allowance":
            self.fund_job(self.jobs[-1])
        elif new.funded == "after false words":
            self.fund_falsely(self.jobs[-1], "stranger", with_permit=new.wallet)
            self.fund_job(self.jobs[-1])
        elif new.funded == "by a permit":
            self.permit_job(self.jobs[-1], "good")
        elif new.funded == "by Permit2":
            self.permit2_job(self.jobs[-1])

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE)
    def fund(self, at: int, by: str) -> None:
        self.fund_job(self.pick(at, NONE), by)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE, with_permit=st.booleans())
    def fund_with_false_words(self, at: int, by: str, with_permit: bool) -> None:
        self.fund_falsely(self.pick(at, NONE), by, with_permit=with_permit)

    def fund_falsely(self, job: Job, by: str, *, with_permit: bool) -> None:
        for accepted, consented in [(each, "") for each in ACCEPTANCES] + [("", each) for each in CONSENTS]:
            if with_permit:
                self.permit_job(job, "good", by, accepted=accepted, consented=consented)
            else:
                self.fund_job(job, by, accepted=accepted, consented=consented)

    def fund_job(self, job: Job, by: str = "stranger", *, accepted: str = "", consented: str = "") -> None:
        words = forgeries.acceptance(self.w, job.terms, accepted), self.consent(job, consented)
        sent = self.w.send("fund", job.terms, *words, by=self.address(by))
        self.judge_funding("fund", sent, job, allowed=not accepted and (not consented or by == self.owner(job)))

    def judge_funding(self, verb: str, sent: Sent, job: Job, *, allowed: bool) -> None:
        certain = self.honest_now(self.owner(job))
        if self.judge(verb, sent.reason is None, allowed=allowed and self.fundable(job), certain=certain):
            self.opened(job)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE, permit=st.sampled_from(["good", "used", "none"]))
    def fund_with_permit(self, at: int, by: str, permit: str) -> None:
        self.permit_job(self.pick(at, NONE), permit, by)

    def permit_job(
        self, job: Job, permit: str, by: str = "stranger", *, accepted: str = "", consented: str = ""
    ) -> None:
        """A good permit; one that somebody used before, which left the allowance; or one that the token refuses."""
        before, owner = (self.trick, self.target), self.address(self.owner(job))
        if permit != "good":
            self.turn("no-permit", "payer")
        if permit == "none":
            self.allow(owner, 0)
        words = forgeries.acceptance(self.w, job.terms, accepted), self.consent(job, consented)
        sent = self.w.send("fund_with_permit", job.terms, *words, BIG, 27, SHOWN, SHOWN, by=self.address(by))
        allowed = not accepted and (not consented or by == self.owner(job)) and permit != "none"
        self.judge_funding("fund_with_permit", sent, job, allowed=allowed)
        self.allow(owner, BIG)
        if permit != "good":
            self.turn(*before)

    def allow(self, owner: str, amount: int) -> None:
        assert self.w.send("approve", self.w.escrow.address, amount, to=self.w.token, by=owner).reason is None

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE)
    def fund_by_permit2(self, at: int, by: str) -> None:
        self.permit2_job(self.pick(at, NONE), by)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE)
    def fund_by_false_permit2(self, at: int, by: str) -> None:
        job = self.pick(at, NONE)
        for accepted, forgery in [("other-signer", ""), ("other-job", "")] + [("", each) for each in PERMITS2]:
            self.permit2_job(job, by, accepted=accepted, forgery=forgery)

    def permit2_job(self, job: Job, by: str = "stranger", *, accepted: str = "", forgery: str = "") -> None:
        """The payer signs the terms as witness; whoever relays may bring others, or a nonce that is used."""
        job.nonce += 1
        nonce = int.from_bytes(job.terms["salt"]) * 1000 + job.nonce
        if forgery == "used-nonce":
            nonce = self.used.get(self.owner(job), nonce)
        used = nonce == self.used.get(self.owner(job))
        signed = b"" if job.wallet else self.w.signature("payer", forgeries.permit2(self.w, job.terms, nonce, forgery))
        refused = "" if forgery == "used-nonce" else forgery
        word = self.word(job, digest(self.w.typed_permit2(job.terms, nonce)), refused, signed)
        acceptance = forgeries.acceptance(self.w, job.terms, accepted)
        sent = self.w.send("fund_with_permit2", job.terms, acceptance, nonce, word, by=self.address(by))
        self.judge_funding("fund_with_permit2", sent, job, allowed=not accepted and not refused and not used)
        if sent.reason is None:
            self.used[self.owner(job)] = nonce

    @precondition(lambda self: len(self.jobs) > 1)
    @rule(items=st.lists(st.tuples(AT, st.sampled_from([""] * 9 + [*CONSENTS])), min_size=1, max_size=3))
    def fund_many(self, items: list[tuple[int, str]]) -> None:
        jobs = [(self.pick(at, NONE), forgery) for at, forgery in items]
        words = [(job.terms, self.w.acceptance(job.terms), self.consent(job, forgery)) for job, forgery in jobs]
        sent = self.w.fund_many(words)
        self.hold(sent.reason is None, "one item blocked a batch")
        for (job, forgery), done in zip(jobs, sent.done, strict=True):
            allowed = self.fundable(job) and not forgery
            if self.judge("fund_many", done, allowed=allowed, certain=self.honest_now(self.owner(job))):
                self.opened(job)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE)
    def release(self, at: int, by: str) -> None:
        self.release_job(self.pick(at, FUNDED), by)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE)
    def release_with_false_words(self, at: int, by: str) -> None:
        for forgery in RELEASES:
            self.release_job(self.pick(at, FUNDED), by, forgery)

    def release_job(self, job: Job, by: str = "stranger", forgery: str = "") -> None:
        sent = self.w.send("release", job.terms, SHOWN, self.release_word(job, forgery), by=self.address(by))
        self.judge_release("release", job, sent.reason is None, allowed=not forgery)

    def judge_release(self, verb: str, job: Job, done: bool, *, allowed: bool) -> None:
        if self.judge(verb, done, allowed=allowed and self.releasable(job), certain=self.honest_now("payee")):
            self.closed(job, RELEASED)

    @precondition(lambda self: len(self.jobs) > 1)
    @rule(items=st.lists(st.tuples(AT, st.sampled_from([""] * 9 + [*RELEASES])), min_size=1, max_size=3))
    def release_many(self, items: list[tuple[int, str]]) -> None:
        jobs = [(self.pick(at, FUNDED), forgery) for at, forgery in items]
        sent = self.w.release_many([(job.terms, SHOWN, self.release_word(job, forgery)) for job, forgery in jobs])
        self.hold(sent.reason is None, "one item blocked a batch")
        for (job, forgery), done in zip(jobs, sent.done, strict=True):
            self.judge_release("release_many", job, done, allowed=not forgery)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE)
    def prove(self, at: int, by: str) -> None:
        self.prove_job(self.pick(at, FUNDED), by)

    def prove_job(self, job: Job, by: str = "stranger") -> None:
        sent = self.w.send("release_by_proof", job.terms, self.w.call(job.terms), by=self.address(by))
        allowed = job.kind == HONEST and job.code_kept
        self.judge_release("release_by_proof", job, sent.reason is None, allowed=allowed)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE)
    def prove_falsely(self, at: int, by: str) -> None:
        """Every false proof, also those of all other jobs, open and closed."""
        job = self.pick(at, FUNDED)
        others = [other.terms for other in self.jobs if other is not job]
        for name, call in forgeries.proofs(self.w, job.terms, others):
            sent = self.w.send("release_by_proof", job.terms, call, by=self.address(by))
            self.hold(sent.reason is not None, f"release_by_proof took {name}")

    @precondition(lambda self: self.jobs)
    @rule(at=AT, opened=st.booleans())
    def the_token_cheats(self, at: int, opened: bool) -> None:
        """Each verb under each trick in turn, until the token lets one pass; then the books must be right."""
        job, before = self.pick(at, FUNDED if opened else NONE), (self.trick, self.target)
        opening = (self.fund_job, lambda job: self.permit_job(job, "good"), self.permit2_job)
        closing = (self.release_job, self.prove_job, self.reclaim_job, self.decline_job)
        for verb in closing if opened else opening:
            for trick in CHEATS:
                for target in ("payee", self.owner(job)) if trick == "blacklist" else ("payee",):
                    self.turn(trick, target)
                    verb(job)
                    self.look_at_the_books()
        self.turn(*before)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=st.sampled_from(["provider", "payer", "provider", "stranger"]))
    def decline(self, at: int, by: str) -> None:
        self.decline_job(self.pick(at, FUNDED), by)

    def decline_job(self, job: Job, by: str = "provider") -> None:
        sent = self.w.send("decline", job.terms, by=self.address(by))
        allowed = job.state == FUNDED and by == "provider"
        if self.judge("decline", sent.reason is None, allowed=allowed, certain=self.pays_back(job)):
            self.closed(job, DECLINED)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE)
    def reclaim(self, at: int, by: str) -> None:
        """Also where the verifier's code is gone: it depends on nobody but the token."""
        late = [job for job in self.jobs if job.state == FUNDED and self.w.now >= job.terms["deadline"]]
        self.reclaim_job(late[-1] if late and at < 8 else self.pick(at, FUNDED), by)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE, in_time=st.sampled_from(["", "", "release", "prove"]), reclaimed=st.booleans())
    def the_deadline_comes(self, at: int, by: str, in_time: str, reclaimed: bool) -> None:
        """In the last second a release and no reclaim, from the deadline on the reverse."""
        job = self.pick(at, FUNDED)
        self.w.at(max(self.w.now, job.terms["deadline"] - 1))
        self.reclaim_job(job, by)
        if in_time:
            {"release": self.release_job, "prove": self.prove_job}[in_time](job, by)
        self.w.at(max(self.w.now, job.terms["deadline"]))
        self.release_job(job, by)
        self.prove_job(job, by)
        if reclaimed:
            self.reclaim_job(job, by)

    def reclaim_job(self, job: Job, by: str = "stranger") -> None:
        sent = self.w.send("reclaim", job.terms, by=self.address(by))
        allowed = job.state == FUNDED and self.w.now >= job.terms["deadline"]
        if self.judge("reclaim", sent.reason is None, allowed=allowed, certain=self.pays_back(job)):
            self.closed(job, RECLAIMED)

    def pays_back(self, job: Job) -> bool:
        return self.honest_now(self.owner(job))

    @precondition(lambda self: self.jobs)
    @rule(at=AT, by=PEOPLE, owner=st.sampled_from([True, True, False]))
    def cancel(self, at: int, by: str, owner: bool) -> None:
        unfunded = [job for job in self.jobs if job.state == NONE and at < 8]
        job = unfunded[-1] if unfunded else self.pick(at)
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
        words = self.w.acceptance(job.terms), self.consent(job, "")
        for verb, arguments in (
            ("fund_item", words),
            ("release_item", (SHOWN, self.release_word(job, ""), self.address(by))),
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
    @rule(trick=st.sampled_from(TRICKS), whom=st.sampled_from(["payee", "payer", "wallet"]))
    def the_token_turns(self, trick: str, whom: str) -> None:
        self.turn(trick, whom)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, closing=st.booleans())
    def the_token_calls_back(self, at: int, closing: bool) -> None:
        """Each verb from inside another one: the lock refuses it, and what was called first goes on."""
        job, before = self.pick(at, FUNDED if closing else NONE), (self.trick, self.target)
        payloads: dict[str, tuple[Any, ...]] = {
            "fund": (self.w.acceptance(job.terms), self.consent(job, "")),
            "release": (SHOWN, self.release_word(job, "")),
            "release_item": (SHOWN, self.release_word(job, ""), self.address("stranger")),
            "release_by_proof": (self.w.call(job.terms),),
            "reclaim": (),
        }
        for verb, words in payloads.items():
            self.turn("reenter", "payer", self.w.payload(verb, job.terms, *words))
            others = [other for other in self.jobs if other is not job and other.state in {NONE, FUNDED}]
            for other in others[-1:]:
                (self.release_job if other.state == FUNDED else self.fund_job)(other)
                self.nothing_was_entered_again()
        self.turn(*before)

    @precondition(lambda self: self.jobs)
    @rule(at=AT, code=st.sampled_from([b"", bytes.fromhex(VERIFIERS[HONEST])]))
    def the_verifiers_code_changes(self, at: int, code: bytes) -> None:
        """Also to code that accepts; no proof closes the job any more."""
        job = self.pick(at, FUNDED)
        self.w.set_code(job.terms["rule"]["verifier"], code)
        job.code_kept = False
        self.prove_job(job)

    # --- invariants

    @invariant()
    def the_books_are_the_models(self) -> None:
        type(self).steps += 1
        self.look_at_the_books()

    def look_at_the_books(self) -> None:
        locked = sum(job.terms["amount"] for job in self.jobs if job.state == FUNDED)
        self.hold(
            self.w.balance(self.w.escrow.address) == locked, "the escrow holds something else than what is FUNDED"
        )
        for name, address in self.people.items():
            self.hold(self.w.balance(address) == self.balances[name], f"{name} holds something else")

    @invariant()
    def the_states_are_the_models(self) -> None:
        for job in self.jobs:
            self.hold(self.w.state(job.terms) == job.state, "a job moved where no call leads")

    @invariant()
    def nothing_was_entered_again(self) -> None:
        self.hold(not self.w.read(self.w.token, "reentered"), "a call was made from inside another")

    @invariant()
    def the_token_is_what_it_was(self) -> None:
        token = self.w.read(self.w.escrow, "TOKEN")
        self.hold(token == self.w.token.address.lower(), "the escrow is for another token")

"""Keys in keystores, in the environment and elsewhere: one signature each way, and the secret nowhere."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tests.chain.conftest import Node
from verifier.errors import EscrowError, OpgateError, UndecidedError
from verifier.evm import signed_by
from verifier.payment.keys import Key, Transaction, create_key, load_key
from verifier.payment.signers import RemoteSigner
from verifier.statement.scalars import SECP256K1_ORDER, Address, Bytes32

SECRET = bytes(range(1, 33))
KEY = Key(SECRET)
DIGEST = Bytes32(b"\x5a" * 32)
ROOT = Path(__file__).parents[2]
SIGNER = f"""
import json, sys
from eth_keys import keys
key = keys.PrivateKey(bytes.fromhex({SECRET.hex()!r}))
asked = json.load(sys.stdin)
print("noise that must not be shown: SECRET", file=sys.stderr)
if asked["method"] == "address":
    answer = {{"address": "{KEY.address}"}}
elif "transaction" in asked and asked["transaction"]["value"] != "0":
    sys.exit(9)
else:
    signature = key.sign_msg_hash(bytes.fromhex(asked["digest"][2:]))
    # as a KMS gives it: without v, and with the high s
    high = {SECP256K1_ORDER} - signature.s
    answer = {{"signature": "0x" + signature.r.to_bytes(32).hex() + high.to_bytes(32).hex()}}
print(json.dumps(answer))
"""


def private(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def transaction(**changes: Any) -> Transaction:
    fields: dict[str, Any] = {
        "chain_id": 8453,
        "nonce": 7,
        "to": Address(b"\x11" * 20),
        "data": b"\x01\x02",
        "gas": 90_000,
        "max_fee_per_gas": 10**10,
        "max_priority_fee_per_gas": 10**9,
    }
    return Transaction(**fields | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nonce": 0, "data": b"", "max_priority_fee_per_gas": 0},
        {"to": None, "data": b"\x60" * 300},
        {"value": 2**90},
    ],
    ids=["call", "zeros", "creation", "value"],
)
def test_a_transaction_is_encoded_as_eth_account_encodes_it(changes: dict[str, Any]) -> None:
    given = transaction(**changes)
    names = ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "data")
    theirs = Account.from_key(SECRET).sign_transaction({"type": 2} | dict(zip(names, given.payload(), strict=False)))
    assert KEY.sign_transaction(given) == (bytes(theirs.raw_transaction), bytes(theirs.hash))


@pytest.mark.parametrize("changes", [{"nonce": -1}, {"gas": "1"}, {"value": None}])
def test_fields_out_of_range_are_not_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(EscrowError, match=r"^E-key-transaction:"):
        KEY.sign_transaction(transaction(**changes))


def test_a_keystore_opens_with_its_password_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = create_key(tmp_path / "payer", password="correct horse")
    stored = json.loads((tmp_path / "payer").read_text())
    assert stored["version"] == 3
    assert (tmp_path / "payer").stat().st_mode & 0o777 == 0o600
    assert stored["crypto"]["kdf"] == "scrypt"
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(EscrowError, match=r"^E-key-password:"):
        load_key(tmp_path / "payer")
    right, wrong = private(tmp_path / "right", b"correct horse\n"), private(tmp_path / "wrong", b"battery\n")
    monkeypatch.setenv("OPGATE_KEY_PASSWORD_FILE", str(right))
    assert load_key(tmp_path / "payer").address == key.address
    quick = private(tmp_path / "quick", json.dumps(Account.encrypt(SECRET, "correct horse", "pbkdf2", 10)).encode())
    assert load_key(quick).address == KEY.address
    monkeypatch.setenv("OPGATE_KEY_PASSWORD_FILE", str(wrong))
    with pytest.raises(EscrowError, match=r"^E-key-password:"):
        load_key(quick)
    right.chmod(0o644)
    monkeypatch.setenv("OPGATE_KEY_PASSWORD_FILE", str(right))
    with pytest.raises(EscrowError, match=r"^E-key-permissions:"):
        load_key(tmp_path / "payer")


@pytest.mark.parametrize(
    "content", [b"{", b"{}", b'{"crypto":1,"version":3}', b'{"version":9}', b"[" * 9000, b"{" * 9000]
)
def test_other_json_is_no_keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("OPGATE_KEY_PASSWORD_FILE", str(private(tmp_path / "word", b"x")))
    with pytest.raises(EscrowError, match=r"^E-key-format:"):
        load_key(private(tmp_path / "bad", content))


def test_a_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"0x{SECRET.hex()}")
    assert load_key("env:MY_KEY").address == KEY.address
    assert load_key(Path("env:MY_KEY")).sign_digest(DIGEST) == KEY.sign_digest(DIGEST)
    for value in ("", "junk", SECRET.hex()):
        monkeypatch.setenv("MY_KEY", value)
        with pytest.raises(EscrowError, match=r"^E-key-format:") as caught:
            load_key("env:MY_KEY")
        assert SECRET.hex() not in str(caught.value)


@pytest.mark.parametrize("given", [SECRET.hex(), f"0x{SECRET.hex()}", SECRET.hex().upper()])
def test_a_key_is_never_an_argument(given: str) -> None:
    """The trap: `--key 0x…` works, and the secret stands in the list of processes and the shell's history."""
    with pytest.raises(EscrowError, match=r"^E-key-secret:") as caught:
        load_key(given)
    assert SECRET.hex() not in str(caught.value).lower()


@pytest.fixture
def command(tmp_path: Path) -> str:
    return f"command:{sys.executable} {private(tmp_path / 'signer.py', SIGNER.encode())}"


def test_a_command_signs_as_a_kms_does(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither v nor low s nor any transaction format is asked of it, and what it prints beside is not shown."""
    signer = load_key(command)
    assert signer.address == KEY.address
    assert signer.sign_digest(DIGEST) == KEY.sign_digest(DIGEST)
    assert signer.sign_transaction(transaction()) == KEY.sign_transaction(transaction())
    with pytest.raises(EscrowError, match=r"^E-signer-refused:"):
        signer.sign_transaction(transaction(value=1))
    assert "SECRET" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("command", "code", "kind"),
    [
        ("command:/nowhere/no-such-program", "E-signer-silent", UndecidedError),
        ("command:false", "E-signer-refused", EscrowError),
        ("command:true", "E-signer-answer", EscrowError),
        ("command:echo {}", "E-signer-answer", EscrowError),
        ('command:echo \'{"address": "0x12"}\'', "E-signer-answer", EscrowError),
        ("command:", "E-signer-command", EscrowError),
        ('command:"', "E-signer-command", EscrowError),
        ("http://signer.example/sign", "E-signer-url", EscrowError),
        ("http://127.0.0.1:9/", "E-signer-silent", UndecidedError),
    ],
)
def test_signers_that_do_not_answer_or_answer_otherwise(command: str, code: str, kind: type[OpgateError]) -> None:
    with pytest.raises(kind) as caught:
        load_key(command)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "signature",
    ["0x", "zz", "0x" + "11" * 64, "0x" + "00" * 64, "0x" + "ff" * 65, str(KEY.sign_digest(Bytes32(b"\1" * 32)))],
)
def test_a_signature_that_is_not_the_addresss_is_refused(signature: str) -> None:
    """The traps: a signer that hashes once more, holds another key, or answers with any bytes."""
    signer = RemoteSigner(lambda _: {"address": str(KEY.address), "signature": signature}, "test")
    with pytest.raises(EscrowError, match=r"^E-signer-signature:"):
        signer.sign_digest(DIGEST)


@pytest.fixture
def url() -> Iterator[tuple[str, list[str]]]:
    """A signer behind HTTP, and the authorisations that it saw."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append(self.headers.get("authorization", ""))
            if self.path != "/good":
                self.send_response(int(self.path[1:]))
                self.end_headers()
                return
            answer = {"address": str(KEY.address)}
            if asked["method"] == "sign":
                answer = {"signature": str(KEY.sign_digest(Bytes32.from_json(asked["digest"])))}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Keep the test quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_signs(url: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    base, seen = url
    monkeypatch.setenv("OPGATE_SIGNER_TOKEN", "let-me-in")
    signer = load_key(Path(f"{base}/good"))  # a path makes one slash of two
    assert signed_by(signer.address, DIGEST, signer.sign_digest(DIGEST))
    assert signer.sign_transaction(transaction()) == KEY.sign_transaction(transaction())
    assert set(seen) == {"Bearer let-me-in"}
    for status, kind in (("403", EscrowError), ("500", UndecidedError), ("302", EscrowError)):
        with pytest.raises(kind) as caught:
            load_key(f"{base}/{status}")
        assert "let-me-in" not in str(caught.value)


_LEAKY = """
import logging, os, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
logging.getLogger("sqlalchemy.engine").setLevel(logging.DEBUG)
from verifier.cli.root import run
sys.exit(run(sys.argv[1:]))
"""


_KEPT = ("keystore", "environment", "file", "command")


@pytest.mark.parametrize("kept", _KEPT if os.environ.get("OPGATE_LONG") else _KEPT[:1])
def test_the_secret_is_in_no_log_argument_or_database(dev_node: Node, tmp_path: Path, kept: str, command: str) -> None:
    """Commands run with every logger at DEBUG; then all that they printed and all files of the home are searched."""
    home = tmp_path / "home"
    (home / "payer").mkdir(parents=True)
    policy = 'schema = "opgate/policy/1"\n[chains]\ndev_chains = [31337]\n[[chains.escrows]]\nchain_id = 31337\n'
    policy += f'escrow = "{dev_node.escrow}"\ntoken = "{dev_node.token}"\n'
    (home / "payer" / "policy.toml").write_text(policy)
    plain = private(tmp_path / "plain", f"0x{SECRET.hex()}\n".encode())
    keystore = private(tmp_path / "keystore", json.dumps(Account.encrypt(SECRET, "pw", "pbkdf2", 10)).encode())
    places = {"file": str(plain), "keystore": str(keystore), "environment": "env:MY_KEY", "command": command}
    environment = os.environ | {"OPGATE_KEY_PASSWORD_FILE": str(private(tmp_path / "pw", b"pw"))}
    environment |= {"MY_KEY": f"0x{SECRET.hex()}"} if kept == "environment" else {}
    common = ["pay", "--home", str(home), "--rpc-url", dev_node.chain.rpc.source, "--key", places[kept]]
    deploy = ["escrow", "deploy", "--home", str(home), "--rpc", dev_node.chain.rpc.source, "--chain-id", "31337"]
    deploy += ["--token", str(dev_node.token), "--key", places[kept]]
    shown = b""
    gift = transaction(chain_id=31337, to=KEY.address, data=b"", gas=21_000, max_fee_per_gas=10**12, value=10**17)
    owner = dev_node.keys["stranger"]
    gift = dataclasses.replace(gift, nonce=dev_node.chain.nonce(owner.address))
    dev_node.chain.send_raw(owner.sign_transaction(gift)[0])
    for words in ([*common, "jobs"], deploy):
        process = subprocess.Popen(
            [sys.executable, "-c", _LEAKY, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=ROOT,
        )
        shown += Path(f"/proc/{process.pid}/cmdline").read_bytes()
        output, _ = process.communicate(timeout=120)
        shown += output
        assert process.returncode == 0, output.decode()
    assert b"sqlalchemy" in shown, "the loggers spoke"
    stored = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    for name, content in (("output", shown), ("files", stored)):
        assert SECRET not in content, name
        assert SECRET.hex().encode() not in content.lower(), name
        assert str(int.from_bytes(SECRET)).encode() not in content, name

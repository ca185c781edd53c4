"""The second opinion `ezkl`: what ezkl's own verifier says of a bundle's proof, in a confined child.

It needs three files beside manifest and code: settings.json, vk.key and kzg1.srs, each by its digest in the manifest.
ezkl checks neither SRS nor settings nor the number of instances, so the three are compared here first, and the
instances are built from the claim, as the verifier builds them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from circuits import ezkl_runner
from circuits.ezkl_runner import Limits, Outcome
from verifier.circuit import find_circuit
from verifier.errors import CircuitError
from verifier.files import read_regular
from verifier.instances import claimed_words
from verifier.statement.canonical import sha256
from verifier.statement.scalars import FIELD_MODULUS, FieldElement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verifier.statement.bundle import ProofBundle
    from verifier.statement.manifest import CircuitManifest

_LIMITS = Limits(wall_seconds=60.0, memory_bytes=8 << 30, threads=1)
_MAX_FILE = 64 << 20
_EMPTY_PROOF = {
    "protocol": None,
    "hex_proof": None,
    "split": None,
    "pretty_public_inputs": None,
    "timestamp": None,
    "version": None,
    "transcript_type": "EVM",
    "commitment": "KZG",
}


def second_opinion(bundle: ProofBundle, circuit_folder: Path) -> bool:
    """True where ezkl accepts the proof for the claim's instances, False where it refuses.

    Raises:
        CircuitError: C-opinion where a file is missing or not the manifest's; C-wall, C-died, C-memory where the child
            did not answer. Neither is an opinion.
        VerifierError, UndecidedError: where the circuit cannot be read.
    """
    manifest = find_circuit(circuit_folder.parent, bundle.circuit_id).manifest
    with tempfile.TemporaryDirectory(prefix="opgate-opinion-") as name:
        work = Path(name)
        _copy_checked(circuit_folder, manifest, work)
        return accepts(proof=bundle.proof, words=_elements(claimed_words(bundle)), work=work, limits=_LIMITS)


def accepts(
    *, proof: bytes, words: Sequence[FieldElement], work: Path, limits: Limits, folder: Path | None = None
) -> bool:
    """Ezkl's opinion of a proof for these instances, from a proof file that holds nothing else.

    settings.json, vk.key and kzg1.srs are taken from `folder`, or from `work`, where the proof file is written.

    Raises:
        CircuitError: C-wall, C-died, C-memory: no opinion. A refusal is False.
    """
    files, path = folder or work, work / "opinion.json"
    instances = [[ezkl_runner.to_hex(word) for word in words]]
    path.write_text(json.dumps(_EMPTY_PROOF | {"instances": instances, "proof": list(proof)}), encoding="utf-8")
    paths = {"proof": path, "settings": files / "settings.json", "vk": files / "vk.key", "srs": files / "kzg1.srs"}
    operation = {"name": "verify", **{name: str(each) for name, each in paths.items()}}
    outcome = ezkl_runner.run([operation], limits)[0]
    return isinstance(outcome, Outcome) and outcome.value is True


def _copy_checked(folder: Path, manifest: CircuitManifest, work: Path) -> None:
    """The three files as the manifest names them: read once, so that what is compared is what ezkl gets."""
    wanted = {
        "settings.json": manifest.settings_sha256,
        "vk.key": manifest.vk_sha256,
        "kzg1.srs": manifest.srs.sha256_k1,
    }
    for name, digest in wanted.items():
        content = read_regular(folder / name, limit=_MAX_FILE)
        if sha256(content) != digest:
            raise CircuitError(
                "C-opinion",
                "the file is not the one that the manifest names",
                where=str(folder / name),
                expected=str(digest),
                found=str(sha256(content)),
                do="Get the circuit again from its owner: opgate circuit export --for payer",
            )
        (work / name).write_bytes(content)


def _elements(words: bytes) -> list[FieldElement]:
    numbers = (int.from_bytes(words[start : start + 32]) for start in range(0, len(words), 32))
    return [FieldElement(number % FIELD_MODULUS) for number in numbers]

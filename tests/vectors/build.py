"""Makes the test vectors of the verifier: `base/` by real proofs, every case from it by one named change.

`python tests/vectors/build.py --prove digits kinds foreign` builds the two digit circuits and one circuit of each kind
anew and proves (needs ezkl and solc; two minutes; proofs and the development SRS are random, so every byte changes).
Without it the cases are made from `base/`; with `--check` they are only compared. What a case is made of, and how
anybody's verifier runs it, is said in `tests/conformance/PROTOCOL.md`.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.vectors.cases import read_base, write_cases
from tests.vectors.prove import prove_digits, prove_foreign, prove_kinds
from tests.vectors.sweeps import prepare, write_sweeps

HERE = Path(__file__).resolve().parent
BASE = HERE / "base"
PARTS = ("cases", "sweeps")
PROVERS = {"digits": prove_digits, "kinds": prove_kinds, "foreign": prove_foreign}


def main() -> int:
    """Exit 1 where `--check` finds a difference."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments.add_argument("--prove", nargs="*", choices=sorted(PROVERS), default=[], help="make parts of base/ anew")
    asked = arguments.parse_args()
    for part in asked.prove:
        PROVERS[part](BASE)
    if not asked.check:
        prepare(read_base(BASE), BASE)
    with tempfile.TemporaryDirectory() as name:
        made, base = Path(name), read_base(BASE)
        count = write_cases(base, made / "cases") + write_sweeps(base, BASE, made / "sweeps")
        if asked.check:
            wrong = [
                str(found)
                for part in PARTS
                for found in sorted(differences(filecmp.dircmp(made / part, HERE / part), Path(part)))
            ]
            print("\n".join(wrong) or f"{count} vectors are as build.py makes them")
            return 1 if wrong else 0
        for part in PARTS:
            shutil.rmtree(HERE / part, ignore_errors=True)
            shutil.copytree(made / part, HERE / part)
    print(f"{count} vectors in {HERE}")
    return 0


def differences(compared: filecmp.dircmp[str], at: Path) -> list[str]:
    """The names of files that are only on one side or have other bytes."""
    _, mismatch, errors = filecmp.cmpfiles(compared.left, compared.right, compared.common_files, shallow=False)
    names = [*compared.left_only, *compared.right_only, *mismatch, *errors]
    found = [str(at / name) for name in names]
    for name, inner in compared.subdirs.items():
        found += differences(inner, at / name)
    return found


if __name__ == "__main__":
    sys.exit(main())

"""Step 0: bytes that are not the one encoding of a bundle, files that are no plain files, and texts at their limits."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tests.vectors.base import Case, resign
from verifier.statement import canonical
from verifier.statement.scalars import FIELD_MODULUS, SECP256K1_ORDER, Text

if TYPE_CHECKING:
    from tests.vectors.base import Base

TEXTS = {
    "valid_text_beyond_ascii": "gerät № 7, 証明 🖥",
    "valid_text_256_characters": "🖥" * 256,
    "valid_text_escaped": 'quote " and \\ backslash',
    "valid_text_not_yet_assigned": "\u0378\U0003fffd",
    "valid_text_empty": "",
    "valid_text_replacement_character": "\ufffd\ufffc",
    "0_text_257_characters": "a" * 257,
    "0_text_line_break": "a\nb",
    "0_text_null_character": "a\0",
    "0_text_delete": "\x7f",
    "0_text_no_break_space": "a\u00a0b",
    "0_text_soft_hyphen": "a\u00adb",
    "0_text_zero_width_joiner": "a\u200db",
    "0_text_right_to_left_override": "a\u202eb",
    "0_text_line_separator": "a\u2028b",
    "0_text_ideographic_space": "a\u3000b",
    "0_text_private_use": "a\ue000b",
    "0_text_byte_order_mark": "a\ufeffb",
    "0_text_tag": "a\U000e0041b",
    "0_text_egyptian_format": "a\U0001343fb",
}
"""Engine names: what a text takes is written out in the specification, since each interpreter has its own Unicode."""


def text_cases(base: Base) -> dict[str, Case]:
    """A receipt whose engine has that name, signed anew; the type refuses some, so these are made of plain JSON."""
    small = base.small
    assert small.receipt is not None
    cases = {}
    for name, text in TEXTS.items():
        if name.startswith("valid"):
            made = resign(replace(small, receipt=replace(small.receipt, engine=Text(text))))
            cases[name] = Case(canonical.encode(made), None)
        else:
            value = json.loads(canonical.encode(small))
            value["receipt"]["engine"] = text
            cases[name] = Case(canonical.encode(value), "V0-schema")
    return cases


def file_cases(base: Base) -> dict[str, Case]:
    """What stands at the bundle's path is no plain file, or too much of one; a runner makes these from `make`."""
    raw = canonical.encode(base.small)
    return {
        "0_fifo": Case(raw, "V0-file", make="fifo"),
        "0_symlink": Case(raw, "V0-file", make="symlink"),
        "0_directory": Case(raw, "V0-file", make="directory"),
        "0_missing_file": Case(raw, "V0-file", make="missing"),
        "0_100_MB": Case(raw, "V0-size", make="size 100000000"),
        "0_one_byte_above_4_MiB": Case(raw, "V0-size", make="size 4194305"),
        "0_4_MiB_of_white_space_behind": Case(raw, "V0-canonical", make="pad 4194304"),
    }


def bytes_cases(base: Base) -> dict[str, Case]:
    """Bytes that are not canonical JSON of the bundle's type."""
    raw = canonical.encode(base.job)
    value = json.loads(raw)
    p = FIELD_MODULUS

    def nested(path: str, content: object) -> bytes:
        copy = json.loads(raw)
        at: Any = copy
        *parents, last = path.split(".")
        for name in parents:
            at = at[name]
        at[last] = content
        return canonical.encode(copy)

    def number(text: bytes) -> bytes:
        return raw.replace(b'"chain_id":31337', b'"chain_id":' + text)

    def signature(name: str, *, r: int | None = None, s: int | None = None, v: int | None = None) -> bytes:
        old = bytes.fromhex(value[name][2:])
        new = (old[:32] if r is None else r.to_bytes(32)) + (old[32:64] if s is None else s.to_bytes(32))
        return nested(name, "0x" + (new + (old[64:] if v is None else bytes([v]))).hex())

    s_of = {name: int(value[name][66:130], 16) for name in ("acceptance", "delivery")}
    depth = b'{"a":' * 16 + b"[]" + b"}" * 16
    cases = {
        "0_empty": (b"", "V0-json"),
        "0_truncated": (raw[:-1], "V0-json"),
        "0_half": (raw[: len(raw) // 2], "V0-json"),
        "0_twice": (raw + raw, "V0-json"),
        "0_trailing_newline": (raw + b"\n", "V0-canonical"),
        "0_leading_space": (b" " + raw, "V0-canonical"),
        "0_trailing_bytes": (raw + b"\0", "V0-json"),
        "0_trailing_comma": (raw[:-1] + b",}", "V0-json"),
        "0_duplicate_key": (raw[:-1] + b',"origin":"delivered"}', "V0-json"),
        "0_duplicate_key_by_escape": (raw[:-1] + b',"origi\\u006e":"delivered"}', "V0-json"),
        "0_duplicate_key_inside": (raw.replace(b'"amount":', b'"amount":"1","amount":'), "V0-json"),
        "0_escaped_key": (raw.replace(b'"origin"', b'"origi\\u006e"'), "V0-canonical"),
        "0_escaped_slash": (raw.replace(b'"engine":"', b'"engine":"\\/'), "V0-canonical"),
        "0_upper_case_escape": (raw.replace(b'"engine":"', b'"engine":"\\u001F'), "V0-canonical"),
        "0_white_space": (raw.replace(b'":', b'": ', 1), "V0-canonical"),
        "0_key_order": (json.dumps(dict(reversed(value.items())), separators=(",", ":")).encode(), "V0-canonical"),
        "0_single_quotes": (raw.replace(b'"', b"'"), "V0-json"),
        "0_comment": (b"/**/" + raw, "V0-json"),
        "0_control_character": (raw.replace(b'"engine":"', b'"engine":"\x01'), "V0-json"),
        "0_not_utf8": (raw.replace(b"delivered", b"deliver\xff\xff"), "V0-json"),
        "0_overlong_utf8": (raw.replace(b'"engine":"', b'"engine":"\xc0\xaf'), "V0-json"),
        "0_surrogate_in_utf8": (raw.replace(b'"engine":"', b'"engine":"\xed\xa0\x80'), "V0-json"),
        "0_lone_surrogate": (raw.replace(b'"engine":"', b'"engine":"\\ud800'), "V0-json"),
        "0_utf16": (raw.decode().encode("utf-16"), "V0-json"),
        "0_byte_order_mark": (b"\xef\xbb\xbf" + raw, "V0-json"),
        "0_deep": (b"[" * 50_000, "V0-depth"),
        "0_depth_17": (depth, "V0-depth"),
        "0_depth_16": (depth[5:-1], "V0-schema"),
        "0_16384_commas": (b"[" + b"0," * 16_384 + b"0]", "V0-schema"),
        "0_16385_commas": (b"[" + b"0," * 16_385 + b"0]", "V0-size"),
        "0_float": (number(b"31337.0"), "V0-json"),
        "0_exponent": (number(b"1e21"), "V0-json"),
        "0_big_number": (number(b"123456789012345678"), "V0-json"),
        "0_number_2_53": (number(b"9007199254740992"), "V0-json"),
        "0_number_leading_zero": (number(b"031337"), "V0-json"),
        "0_number_plus": (number(b"+31337"), "V0-json"),
        "0_number_hex": (number(b"0x7a69"), "V0-json"),
        "0_number_minus_zero": (number(b"-0"), "V0-canonical"),
        "0_number_negative": (number(b"-1"), "V0-schema"),
        "0_nan": (number(b"NaN"), "V0-json"),
        "0_infinity": (number(b"-Infinity"), "V0-json"),
        "0_gzip": (gzip.compress(raw, mtime=0), "V0-json"),
        "0_list": (b"[]", "V0-schema"),
        "0_text": (b'"bundle"', "V0-schema"),
        "0_null": (b"null", "V0-schema"),
        "0_empty_object": (b"{}", "V0-schema"),
        "0_null_for_absent": (nested("input_hash", None), "V0-schema"),
        "0_inputs_and_hash": (nested("input_hash", "1"), "V0-schema"),
        "0_input_hash_p": (nested("input_hash", str(p)), "V0-schema"),
        "0_other_schema": (nested("schema", "opgate/bundle/2"), "V0-schema"),
        "0_other_origin": (nested("origin", "elsewhere"), "V0-schema"),
        "0_chain_without_evidence": (nested("origin", "chain"), "V0-schema"),
        "0_amount_number": (nested("terms.amount", 5), "V0-schema"),
        "0_amount_leading_zero": (nested("terms.amount", "05"), "V0-schema"),
        "0_amount_negative": (nested("terms.amount", "-5"), "V0-schema"),
        "0_amount_hex": (nested("terms.amount", "0x5"), "V0-schema"),
        "0_amount_underscore": (nested("terms.amount", "5_0"), "V0-schema"),
        "0_amount_arabic_digits": (nested("terms.amount", "\u0665"), "V0-schema"),
        "0_amount_empty": (nested("terms.amount", ""), "V0-schema"),
        "0_amount_2_256": (nested("terms.amount", str(2**256)), "V0-schema"),
        "0_deadline_text": (nested("terms.deadline", "1700000900"), "V0-schema"),
        "0_deadline_true": (nested("terms.deadline", True), "V0-schema"),
        "0_address_upper": (nested("terms.payee", value["terms"]["payee"].upper().replace("0X", "0x")), "V0-schema"),
        "0_address_short": (nested("terms.payee", value["terms"]["payee"][:-2]), "V0-schema"),
        "0_address_newline": (nested("terms.payee", value["terms"]["payee"] + "\n"), "V0-schema"),
        "0_proof_odd_hex": (nested("proof", value["proof"][:-1]), "V0-schema"),
        "0_proof_without_0x": (nested("proof", value["proof"][2:]), "V0-schema"),
        "0_proof_huge": (nested("proof", "0x" + "00" * 70_000), "V0-schema"),
        "0_output_half_field": (nested("outputs", [[str(p // 2 + 1)]]), "V0-schema"),
        "0_output_minus_half_field": (nested("outputs", [[str(-(p // 2) - 1)]]), "V0-schema"),
        "0_output_minus_zero": (nested("outputs", [["-0"]]), "V0-schema"),
        "0_output_number": (nested("outputs", [[1]]), "V0-schema"),
        "0_output_flat": (nested("outputs", value["outputs"][0]), "V0-schema"),
        "0_output_nested": (nested("outputs", [value["outputs"]]), "V0-schema"),
        "0_receipt_float": (nested("receipt.prove_seconds", "1e3"), "V0-schema"),
        "0_measure_trailing_zero": (nested("receipt.prove_seconds", "1.50"), "V0-schema"),
        "0_measure_negative": (nested("receipt.prove_seconds", "-1"), "V0-schema"),
        "0_unicode_engine": (raw.replace(b'"engine":"', b'"engine":"\\u0000'), "V0-schema"),
        "0_prototype_key": (raw[:-1] + b',"zz__proto__":{}}', "V0-schema"),
    }
    for name in ("acceptance", "delivery"):
        other_v = 55 - int(value[name][130:], 16)
        cases |= {
            f"0_{name}_high_s": (signature(name, s=SECP256K1_ORDER - s_of[name], v=other_v), "V0-schema"),
            f"0_{name}_r_zero": (signature(name, r=0), "V0-schema"),
            f"0_{name}_r_order": (signature(name, r=SECP256K1_ORDER), "V0-schema"),
            f"0_{name}_s_zero": (signature(name, s=0), "V0-schema"),
            f"0_{name}_v_0": (signature(name, v=0), "V0-schema"),
            f"0_{name}_v_29": (signature(name, v=29), "V0-schema"),
            f"0_{name}_64_bytes": (nested(name, value[name][:-2]), "V0-schema"),
            f"0_{name}_66_bytes": (nested(name, value[name] + "00"), "V0-schema"),
            f"3_{name}_other_v": (signature(name, v=other_v), f"V3-{name}"),
            f"3_{name}_no_point": (signature(name, r=_no_point()), f"V3-{name}"),
        }
    return {name: Case(made, code) for name, (made, code) in cases.items()}


def _no_point() -> int:
    """The least r above 4 that is no x of a point of secp256k1: recovery finds nobody."""
    prime = 2**256 - 2**32 - 977
    return next(x for x in range(5, 100) if pow(x**3 + 7, (prime - 1) // 2, prime) != 1)

"""Evaluates flags of a running proxy as an application does: by the official OpenFeature SDK and its OFREP provider.

usage: evaluate.py URL      the token is in TIDEGATE_TOKEN

The flags are those of tests/e2e/flags/openfeature.rs. Every answer that is not the expected one is told; then it fails.
"""

import os
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import Reason

URL, TOKEN = sys.argv[1], os.environ["TIDEGATE_TOKEN"]
wrong = 0
checked = 0


def client(name, **arguments):
    """A client of this provider, asked for by a domain of its own."""
    api.set_provider(OFREPProvider(URL, **arguments), name)
    return api.get_client(name)


def check(what, details, value, reason, variant=None, error=None):
    """Compares an answer with what is expected of it, types included."""
    global wrong, checked
    checked += 1
    code = details.error_code.value if details.error_code else None
    got = (type(details.value), details.value, details.reason, details.variant, code)
    expected = (type(value), value, reason, variant, error)
    if got != expected:
        wrong += 1
        print(f"{what}:\n  expected {expected}\n  got      {got} {details.error_message}")


flags = client("with a token", headers_factory=lambda: {"Authorization": f"Bearer {TOKEN}"})
ann = EvaluationContext("ann", {"plan": "lead"})
gold = EvaluationContext("ann", {"plan": "gold", "seats": 3, "tags": ["a"], "nested": {"deep": True}})

# Every type, with its default for an application that is never used.
check("boolean", flags.get_boolean_details("new-shop", False, ann), True, Reason.STATIC, "on")
check("boolean without context", flags.get_boolean_details("new-shop", False), True, Reason.STATIC, "on")
check("plain on", flags.get_boolean_details("RECENT", False, ann), True, Reason.STATIC, "on")
check("default", flags.get_boolean_details("untouched", True, ann), False, Reason.DEFAULT, "default")
check("string", flags.get_string_details("color", "none", ann), "blue", Reason.STATIC, "ocean")
check("plain string", flags.get_string_details("greeting", "none", ann), "hello there", Reason.STATIC, "default")
check("integer", flags.get_integer_details("limit", 1, ann), 2147483647, Reason.STATIC, "high")
check("large integer", flags.get_integer_details("huge", 1, ann), 9007199254740991, Reason.STATIC, "all")
check("float", flags.get_float_details("ratio", 0.5, ann), 0.25, Reason.STATIC, "quarter")
check("float without a fraction", flags.get_float_details("round", 0.5, ann), 10.0, Reason.STATIC, "ten")
layout = {"columns": 3, "wide": True, "names": ["a", "b"], "inner": {"gap": 0.5}}
check("object", flags.get_object_details("layout", {}, ann), layout, Reason.STATIC, "grid")

# Targeting by what is known of the visitor, and by who it is.
for context, value, reason, variant in [
    (gold, 100, Reason.TARGETING_MATCH, "many"),
    (ann, 5, Reason.DEFAULT, "few"),
    (EvaluationContext(attributes={"plan": "gold"}), 100, Reason.TARGETING_MATCH, "many"),
    (None, 5, Reason.DEFAULT, "few"),
]:
    check(f"by plan {context}", flags.get_integer_details("downloads", 0, context), value, reason, variant)
hit, miss = "5c3d8535-f81a-4478-a6d3-afaa4d51199e", "f20bd32d-703b-48b6-bc8e-79d53c85134a"
for key, value, reason in [(hit, "hit", Reason.TARGETING_MATCH), (miss, "miss", Reason.DEFAULT)]:
    check(key, flags.get_string_details("by-key", "", EvaluationContext(key)), value, reason, value)

# flagd's published buckets, by an attribute and by the targeting key.
for name, suit in [("jack", "hearts"), ("queen", "spades"), ("ten", "clubs"), ("nine", "diamonds"), ("3", "clubs")]:
    context = EvaluationContext(attributes={"user": {"name": name}})
    check(name, flags.get_string_details("fractional-flag", "", context), suit, Reason.TARGETING_MATCH, suit)
for key, side in [("jon@company.com", "heads"), ("jane@company.com", "tails")]:
    details = flags.get_string_details("fractional-flag-shorthand", "", EvaluationContext(key))
    check(key, details, side, Reason.TARGETING_MATCH, side)

# A share: the same visitor always has the same, and it is about that share.
on = sum(flags.get_boolean_value("ramp", False, EvaluationContext(f"visitor-{n}")) for n in range(200))
again = sum(flags.get_boolean_value("ramp", False, EvaluationContext(f"visitor-{n}")) for n in range(200))
checked += 1
if on != again or not 30 <= on <= 70:
    wrong += 1
    print(f"a share of 25 %: {on} and {again} of 200 visitors")
share = flags.get_boolean_details("ramp", False, ann)
checked += 1
if share.reason != Reason.SPLIT or share.flag_metadata.get("source") != "main" or share.flag_metadata.get("stale"):
    wrong += 1
    print(f"a share: {share}")

# What cannot be evaluated has the application's own default, and says why.
error = Reason.ERROR
check("unknown", flags.get_boolean_details("nothing", True, ann), True, error, error="FLAG_NOT_FOUND")
check("string as boolean", flags.get_boolean_details("color", True, ann), True, error, error="TYPE_MISMATCH")
check("boolean as string", flags.get_string_details("new-shop", "x", ann), "x", error, error="TYPE_MISMATCH")
check("float as integer", flags.get_integer_details("ratio", 7, ann), 7, error, error="TYPE_MISMATCH")
check("string as object", flags.get_object_details("color", {"a": 1}, ann), {"a": 1}, error, error="TYPE_MISMATCH")
check("a share for nobody", flags.get_boolean_details("ramp", True), True, error, error="TARGETING_KEY_MISSING")
check("a rule to nowhere", flags.get_string_details("astray", "x", ann), "x", error, error="PARSE_ERROR")
# The provider takes an answer without a value for the application's default.
check("switched off", flags.get_string_details("retired", "mine", ann), "mine", Reason.DISABLED, "")

# Who may not, and who is not there.
stranger = client("without a token")
check("no token", stranger.get_boolean_details("new-shop", False, ann), False, error, error="GENERAL")
URL = "http://127.0.0.1:9"
nobody = client("nobody there", timeout=1.0)
check("nobody there", nobody.get_boolean_details("new-shop", True, ann), True, error, error="GENERAL")

print(f"{checked} evaluations, {wrong} wrong")
sys.exit(1 if wrong else 0)

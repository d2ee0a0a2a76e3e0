"""Ratings: what readers thought of passages, used only as long as they agree to it."""

from spellbound.data.ratings.consent import Ledger, Terms
from spellbound.data.ratings.keys import is_user_key, require_user_key, secret_from_environment, user_key
from spellbound.data.ratings.log import RatingLog, append, purge, read_consents, withdraw
from spellbound.data.ratings.manifest import manifest_of, write_manifest
from spellbound.data.ratings.pairs import (
    Pair,
    PairRules,
    Thumb,
    ThumbRules,
    preference_pairs,
    read_pairs,
    read_thumbs,
    thumbs,
    write_pairs,
    write_thumbs,
)
from spellbound.data.ratings.rated import VETO, ExampleRules, Share, rated_examples
from spellbound.data.ratings.records import FLAGS, SCOPES, Consent, Flag, FlagKind, Rating, Scope, normalised
from spellbound.data.ratings.report import Reason, Report

__all__ = [
    "FLAGS",
    "SCOPES",
    "VETO",
    "Consent",
    "ExampleRules",
    "Flag",
    "FlagKind",
    "Ledger",
    "Pair",
    "PairRules",
    "Rating",
    "RatingLog",
    "Reason",
    "Report",
    "Scope",
    "Share",
    "Terms",
    "Thumb",
    "ThumbRules",
    "append",
    "is_user_key",
    "manifest_of",
    "normalised",
    "preference_pairs",
    "purge",
    "rated_examples",
    "read_consents",
    "read_pairs",
    "read_thumbs",
    "require_user_key",
    "secret_from_environment",
    "thumbs",
    "user_key",
    "withdraw",
    "write_manifest",
    "write_pairs",
    "write_thumbs",
]

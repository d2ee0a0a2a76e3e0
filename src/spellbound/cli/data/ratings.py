"""`spellbound data ratings`: readers' ratings to training rows, and what readers take back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from spellbound.data.ratings import Ledger, Rating, Report, Share

app = typer.Typer(
    name="ratings",
    help="Make training rows of ratings under live consent; withdraw consent, erase a reader.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Ratings = Annotated[
    list[Path], typer.Argument(metavar="RATINGS...", help="Logs of ratings: .jsonl, .jsonl.gz or .parquet.")
]
Consents = Annotated[
    list[Path], typer.Option("--consent", metavar="FILE", help="Log of consent events; may be repeated.")
]
Accepted = Annotated[
    list[str],
    typer.Option("--accept", metavar="VERSION", help="Accepted version of the consent; may be repeated."),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Rows: .parquet or .jsonl.")]
At = Annotated[
    datetime | None,
    typer.Option("--at", metavar="TIME", help="The moment of the build, in UTC; now if not given."),
]
PerUser = Annotated[int, typer.Option(help="Ratings of one reader that count; of more, the newest.")]
Veto = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FLAG", help="Flag that rules an output out; may be repeated. Replaces the usual ones."
    ),
]
Licence = Annotated[str, typer.Option(metavar="NAME", help="Licence of the rows.")]
User = Annotated[str, typer.Argument(metavar="KEY", help="Key of the reader, u1-…")]


@app.command()
def examples(
    ratings: Ratings,
    consent: Consents,
    accept: Accepted,
    output: Output,
    threshold: Annotated[float, typer.Option(help="Least mean score, 0 to 1.")] = 0.6,
    least_weight: Annotated[float, typer.Option(help="Weight at the threshold; 1 at score 1.")] = 0.25,
    readers: Annotated[int, typer.Option(help="Least number of readers.")] = 1,
    per_user: PerUser = 100,
    veto: Veto = None,
    licence: Licence = "",
    at: At = None,
) -> None:
    """Make weighted examples for fine-tuning of outputs that readers liked."""
    from spellbound.data.ratings import ExampleRules, rated_examples
    from spellbound.data.rows import write_examples

    rules = ExampleRules(
        share=_share(per_user, veto, licence),
        threshold=threshold,
        least_weight=least_weight,
        readers=readers,
    )
    _build(rated_examples, write_examples, rules, ratings, consent, accept, at, output)


@app.command()
def pairs(
    ratings: Ratings,
    consent: Consents,
    accept: Accepted,
    output: Output,
    margin: Annotated[float, typer.Option(help="Least difference of the scores, 0 to 1.")] = 0.25,
    least_chosen: Annotated[float, typer.Option(help="Least mean score of what is chosen.")] = 0.5,
    per_prompt: Annotated[int, typer.Option(help="Pairs of one prompt; of more, the widest.")] = 4,
    per_user: PerUser = 100,
    veto: Veto = None,
    licence: Licence = "",
    at: At = None,
) -> None:
    """Make preference pairs (DPO) of outputs to one prompt that the same readers rated."""
    from spellbound.data.ratings import PairRules, preference_pairs, write_pairs

    rules = PairRules(
        share=_share(per_user, veto, licence),
        margin=margin,
        least_chosen=least_chosen,
        per_prompt=per_prompt,
    )
    _build(preference_pairs, write_pairs, rules, ratings, consent, accept, at, output)


@app.command()
def thumbs(
    ratings: Ratings,
    consent: Consents,
    accept: Accepted,
    output: Output,
    good: Annotated[float, typer.Option(help="Least mean score of a good output.")] = 0.75,
    bad: Annotated[float, typer.Option(help="Highest mean score of a bad output.")] = 0.25,
    per_user: PerUser = 100,
    veto: Veto = None,
    licence: Licence = "",
    at: At = None,
) -> None:
    """Make rows of good and bad outputs (KTO)."""
    from spellbound.data.ratings import ThumbRules, write_thumbs
    from spellbound.data.ratings import thumbs as good_and_bad

    rules = ThumbRules(share=_share(per_user, veto, licence), good=good, bad=bad)
    _build(good_and_bad, write_thumbs, rules, ratings, consent, accept, at, output)


@app.command()
def swipes(
    chats: Annotated[list[Path], typer.Argument(metavar="CHAT...", help="SillyTavern chats, .jsonl.")],
    output: Output,
    per_place: Annotated[int, typer.Option(help="Pairs of one place of a chat.")] = 4,
    language: Annotated[str, typer.Option(metavar="CODE", help="Language of the chats: en, de, he ...")] = "",
    licence: Licence = "",
) -> None:
    """Make implicit pairs of your own chats: the answer kept, and those swiped away. Names stay in them."""
    from spellbound.cli.data.progress import counted
    from spellbound.cli.files import require_other_file, require_writable
    from spellbound.data.ratings import write_pairs
    from spellbound.data.ratings.swipes import swipe_pairs
    from spellbound.data.readers.chat import read_chat

    require_writable(output)
    for chat in chats:
        require_other_file(output, str(chat))
    rows = swipe_pairs(map(read_chat, chats), per_place=per_place, language=language, licence=licence)
    written = write_pairs(output, counted(rows, "reading", "pairs"))
    typer.echo(f"{output}: chats {len(chats):,}, implicit pairs {written:,}")


@app.command()
def withdraw(
    user: User,
    consent: Annotated[
        Path, typer.Option("--consent", metavar="FILE", help="Log of consent events, .jsonl.")
    ],
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help="Use that ends; may be repeated. All if not given."),
    ] = None,
) -> None:
    """Note that a reader withdraws consent: no later build uses any of their ratings."""
    from spellbound.data.ratings import SCOPES, require_user_key
    from spellbound.data.ratings import withdraw as note
    from spellbound.errors import InputError

    if unknown := sorted(set(scope or ()) - set(SCOPES)):
        raise InputError(f"--scope {unknown[0]}: is no scope; give some of {', '.join(SCOPES)}")
    if not consent.is_file():  # a new file would be one that no build reads
        raise InputError(
            f"--consent {consent}: there is no such file; give the log that builds are made with"
        )
    given = note(consent, require_user_key(user), [each for each in SCOPES if not scope or each in scope])
    if not given:
        typer.echo(f"spellbound: {consent} has no consent of this reader: is it theirs?", err=True)
    typer.echo(f"{consent}: withdrawal noted; build again what was made of ratings, or erase them with purge")


@app.command()
def purge(
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOG...", help="Logs of ratings: .jsonl or .parquet.")
    ],
    user: Annotated[str, typer.Option("--user", metavar="KEY", help="Key of the reader, u1-…")],
) -> None:
    """Rewrite logs without a reader's rows, withdrawals apart. Nothing brings them back."""
    from spellbound.data.ratings import purge as erase

    for log in logs:
        typer.echo(f"{log}: rows erased: {erase(log, user):,}")


@app.command()
def key(
    account: Annotated[
        str,
        typer.Argument(metavar="[ACCOUNT]", help="What tells readers apart; - for one a line of the input."),
    ] = "-",
) -> None:
    """Print the key of a reader, made with the secret in SPELLBOUND_USER_SECRET."""
    from spellbound.cli.files import STDIN, read_text
    from spellbound.data.ratings import secret_from_environment, user_key

    secret = secret_from_environment()
    accounts = read_text(STDIN).removesuffix("\n").split("\n") if account == STDIN else [account]
    for each in accounts:
        typer.echo(user_key(each, secret))


class _Watched:
    """A log that shows how far it was read."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __iter__(self) -> Iterator[tuple[str, Rating]]:
        from spellbound.cli.data.progress import counted
        from spellbound.data.ratings import RatingLog

        return counted(RatingLog(self._paths), "reading", "ratings")


def _share(per_user: int, veto: list[str] | None, licence: str) -> Share:
    from spellbound.data.ratings import FLAGS, VETO, Share

    kinds = VETO if veto is None else frozenset(kind for kind in FLAGS if kind in veto)
    if veto is not None and (unknown := sorted(set(veto) - set(FLAGS))):
        from spellbound.errors import InputError

        raise InputError(f"--veto {unknown[0]}: is no flag; give some of {', '.join(FLAGS)}")
    return Share(per_user=per_user, veto=kinds, licence=licence)


def _build(
    make: Any,
    write: Any,
    rules: Any,
    ratings: list[Path],
    consent: list[Path],
    accept: list[str],
    at: datetime | None,
    output: Path,
) -> None:
    """Write rows and their manifest, then say what became of every rating."""
    from spellbound.cli.files import require_other_file, require_writable
    from spellbound.data.ratings import Ledger, Report, Terms, read_consents, write_manifest
    from spellbound.data.ratings.records import now

    require_writable(output)
    for source in (*ratings, *consent):
        require_other_file(output, str(source))
    moment = now() if at is None else at.replace(tzinfo=at.tzinfo or UTC)
    ledger: Ledger = Ledger(read_consents(consent), Terms(versions=frozenset(accept), at=moment))
    report = Report()
    # Also written if no rating is left: the rows of an earlier build must not outlive the consent to them.
    write(output, make(_Watched(ratings), ledger, rules, report))
    manifest = write_manifest(output, ledger, rules, report)
    _say(report, output, manifest)


def _say(report: Report, output: Path, manifest: Path) -> None:
    from spellbound.cli.controls import one_line

    for fault in report.faults:
        typer.echo(f"spellbound: {one_line(fault)}", err=True)
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"{output}: how it was made is in {manifest.name}")

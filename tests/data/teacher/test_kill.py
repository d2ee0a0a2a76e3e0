"""SIGKILL in the middle of a run: what was answered is never asked again, and the result is the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from spellbound.data.documents import Document
from spellbound.data.teacher import TeacherAnnotator
from tests.data.teacher import model
from tests.data.teacher.conftest import MakeTeacher
from tests.data.teacher.loopback import Loopback

EVENINGS = 12
CONCURRENCY = 3
PRICE = 10.0
RUN = f"""
import sys
from pathlib import Path
from spellbound.data.documents import Document
from spellbound.data.teacher import Teacher, TeacherAnnotator, TeacherSettings

settings = TeacherSettings(
    model="m", cache=Path(sys.argv[1]), base_url=sys.argv[2], concurrency={CONCURRENCY}, input_price={PRICE}
)
document = Document(id="harbour", text=Path(sys.argv[3]).read_text(encoding="utf-8"), language="en")
with Teacher(settings) as teacher:
    story = TeacherAnnotator(teacher, passage_words=40).annotate(document)
    print(story.model_dump_json())
    print(teacher.usage.report(), file=sys.stderr)
"""


def test_no_call_is_paid_twice(server: Loopback, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    server.answer = model.answers
    text = tmp_path / "story.txt"
    text.write_text(model.novel(EVENINGS), encoding="utf-8")
    cache = tmp_path / "kept"
    command = [sys.executable, "-c", RUN, str(cache), server.url, str(text)]
    answered = 0
    # Once among the character sheets, once among the tags.
    for more in (5, 16):
        server.let_through(more)
        server.waiting = 0
        with subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL) as run:
            # When all its threads wait for the server, every answer it had is used and kept.
            while server.waiting < CONCURRENCY and run.poll() is None:
                time.sleep(0.01)
            run.kill()
        answered += more
        assert run.returncode == -9
        assert sum(server.paid.values()) == answered
    server.let_through(None)
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)
    assert max(server.paid.values()) == 1
    assert f"{len(server.paid) - answered:,} calls, {answered:,} from the cache" in done.stderr

    teacher = make_teacher()
    document = Document(id="harbour", text=model.novel(EVENINGS), language="en")
    unbroken = TeacherAnnotator(teacher, passage_words=40).annotate(document)
    assert done.stdout.strip() == unbroken.model_dump_json()
    assert max(server.paid.values()) == 2  # by this last teacher, whose cache is another
    resumed = make_teacher(cache=cache, input_price=PRICE)
    # All that was answered, and at its highest price what was under way at the two kills.
    assert resumed.spent() > teacher.usage.calls * 100 * PRICE / 1e6

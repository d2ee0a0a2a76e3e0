"""What the package gives, and what it needs before it is used."""

from __future__ import annotations

import subprocess
import sys

import spellbound.data.teacher
from spellbound.data.teacher.cast import Sheets
from spellbound.data.teacher.prompts import LANGUAGES, messages, prompts_version
from spellbound.data.teacher.questions import schema_of


def test_it_loads_without_torch_and_without_the_client() -> None:
    code = """
import sys
sys.modules["openai"] = None
from spellbound.data.teacher import TeacherAnnotator
assert not {"torch", "pyarrow"} & set(sys.modules)
from spellbound.errors import EnvironmentFault
try:
    TeacherAnnotator(model="m", cache="kept", key_variable="")
except EnvironmentFault as fault:
    print(fault)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("run: pip install 'spellbound[data]'")


def test_the_public_names_are_all_there() -> None:
    assert all(hasattr(spellbound.data.teacher, name) for name in spellbound.data.teacher.__all__)


def test_schemas_hold_fields_and_nothing_else() -> None:
    schema = schema_of(Sheets)
    sheet = schema["$defs"]["Sheet"]
    fields = ["name", "aliases", "gender", "personality", "voice", "description"]
    assert list(sheet["properties"]) == sheet["required"] == fields
    assert sheet["properties"]["description"] == {"type": "string"}
    assert "title" not in str(schema)
    assert "What one passage" not in str(schema)


def test_prompts_are_filled_in_once() -> None:
    system, user = messages("sheets", "de", known="", passage="They wrote {{known}} and {{words}}.")
    assert system[0] == "system"
    assert "(in German)" in user[1]
    assert user[1].endswith("They wrote {{known}} and {{words}}.")
    assert "(in " not in messages("sheets", "xx", known="", passage="")[1][1]
    assert set(LANGUAGES) == {"en", "fr", "de", "nl", "es", "pt", "it", "ar", "he"}
    assert len(prompts_version()) == 10

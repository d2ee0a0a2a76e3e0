"""The teacher: any model behind an OpenAI-compatible server that tags stories and writes instructions.

Answers are verified, faults are explained to the model, and every answer is kept: none is paid twice.
"""

from spellbound.data.teacher.annotator import AnnotatorSettings, TeacherAnnotator
from spellbound.data.teacher.client import Teacher
from spellbound.data.teacher.instructor import InstructorSettings, TeacherInstructor
from spellbound.data.teacher.questions import Answer, Form, Question
from spellbound.data.teacher.replies import TeacherStopped
from spellbound.data.teacher.settings import TeacherSettings
from spellbound.data.teacher.usage import Usage

__all__ = [
    "AnnotatorSettings",
    "Answer",
    "Form",
    "InstructorSettings",
    "Question",
    "Teacher",
    "TeacherAnnotator",
    "TeacherInstructor",
    "TeacherSettings",
    "TeacherStopped",
    "Usage",
]

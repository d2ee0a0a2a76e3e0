"""The third stage: documents to tagged stories to examples that pass every check."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spellbound.data.annotators import annotator
from spellbound.data.check import Limits
from spellbound.data.check.examine import Tokens, faults_of
from spellbound.data.documents import Document
from spellbound.data.examples import Example
from spellbound.data.instructions import Instructor, instructor
from spellbound.data.pipeline.counts import Counts
from spellbound.data.pipeline.lines import Sorted, write_lines, written
from spellbound.data.pipeline.reading import documents_of
from spellbound.data.tagged import AnnotationRefused, Annotator, TaggedStory


@dataclass(frozen=True, slots=True)
class MakeExamples:
    """A task tags its documents, writes instructions for them, and checks every example."""

    work: Path
    plan: dict[str, Any]

    def __call__(self, data: object, rank: int = 0, world_size: int = 1) -> None:
        """Do one task."""
        scratch = self.work / "scratch"
        with Sorted(scratch) as stories, Sorted(scratch) as examples, Sorted(scratch) as refused:
            task = _Task(self.plan, stories, examples, refused)
            for document in documents_of(self.work, rank):
                task.take(document)
            for name, lines in (("stories", stories), ("examples", examples), ("refused", refused)):
                place = f"make-{rank:05d}" if name == "refused" else f"{rank:05d}"
                write_lines(self.work / name / f"{place}.jsonl", lines.lines())
            task.counts.write(self.work / "counts" / f"make-{rank:05d}.jsonl")


class _Task:
    """What one task makes, with its tools."""

    def __init__(self, plan: dict[str, Any], stories: Sorted, examples: Sorted, refused: Sorted) -> None:
        self._annotators, self._instructor = tools_of(plan)
        self._limits, self._tokens = limits_of(plan)
        self._stories, self._examples, self._refused = stories, examples, refused
        self.counts = Counts()

    def take(self, document: Document | None) -> None:
        """Make what can be made of a document."""
        if document is None:
            self.counts.add("documents repeated", "")
            return
        story = self._tagged(document)
        if story is None:
            self.counts.add("documents refused", document.language)
            return
        self.counts.add("stories", story.language)
        self._stories.add(story.id, written(story.model_dump()))
        made = sum(1 for example in self._instructor.instruct(story) if self._keep(example))
        if not made:
            self.counts.add("stories without examples", story.language)

    def _tagged(self, document: Document) -> TaggedStory | None:
        """Return what the first annotator makes of it that does not refuse it."""
        why: list[str] = []
        for each in self._annotators:
            try:
                return each.annotate(document)
            except AnnotationRefused as error:
                why.append(f"{each.name}: {error}")
        self._refuse(document.id, "annotate", " | ".join(why))
        return None

    def _keep(self, example: Example) -> bool:
        """Keep an example if nothing is wrong with it."""
        self.counts.add("examples made", example.language)
        value = example.model_dump()
        faults = faults_of(value, self._limits, self._tokens)
        if not faults:
            self._examples.add(example.id, written(value))
            return True
        self.counts.add(f"refused: {faults[0].code}", example.language)
        self._refuse(example.id, "check", f"{faults[0].field}: {faults[0].what}")
        return False

    def _refuse(self, identity: str, step: str, why: str) -> None:
        self._refused.add(identity, written({"id": identity, "step": step, "why": why}))


def tools_of(plan: dict[str, Any]) -> tuple[list[Annotator], Instructor]:
    """The annotators and the instructor of a plan; InputError for settings that they do not take."""

    def settings(name: str) -> dict[str, Any]:
        return dict(plan["settings"].get(name, {}))

    chosen = plan["instructor"]
    return [annotator(each, **settings(each)) for each in plan["annotators"]], instructor(
        chosen, **settings(chosen)
    )


def limits_of(plan: dict[str, Any]) -> tuple[Limits, Tokens | None]:
    """The limits of a plan, and the counter of tokens that they name."""
    from spellbound.data.tokens import token_counter

    given = dict(plan["limits"])
    folder = Path(given.pop("tokenizer")) if given["tokenizer"] else None
    limits = Limits(**{key: value for key, value in given.items() if key != "tokenizer"}, tokenizer=folder)
    return limits, None if folder is None else token_counter(folder)

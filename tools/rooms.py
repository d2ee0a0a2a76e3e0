"""The import rule of the design, as a contract for import-linter: a table of rooms and what each may import.

The built-in contracts want every room to exist and forbid by list; this one says what is allowed, holds for
rooms that are still to come, and refuses a room that nobody wrote a rule for.
"""

from collections.abc import Iterator

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

Table = dict[str, frozenset[str]]
ANYTHING = "*"


class RoomField(fields.Field[tuple[str, frozenset[str]]]):
    """One row, written ``room: allowed, allowed``."""

    def parse(self, raw_data: str | list[str]) -> tuple[str, frozenset[str]]:
        """Split a row at its colon and commas."""
        if not isinstance(raw_data, str) or raw_data.count(":") != 1:
            raise fields.ValidationError(f"{raw_data!r} is not a row; write 'room: allowed, allowed'")
        room, allowed = raw_data.split(":")
        return room.strip(), frozenset(name.strip() for name in allowed.split(",") if name.strip())


class RoomsContract(Contract):
    """Every direct import between two rooms stands in the table, and every room has a row."""

    type_name = "rooms"

    package = fields.StringField()
    everywhere = fields.ListField(subfield=fields.StringField())
    rooms = fields.ListField(subfield=RoomField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at each import of the package once."""
        inside = f"{self.package}."
        table: Table = dict(self.rooms)  # type: ignore[call-overload]  # a declared field, filled in by then
        modules = {name for name in graph.modules if name.startswith(inside)}
        rooms = {module: self._room(module.removeprefix(inside), table) for module in modules}
        lost = sorted(module for module, room in rooms.items() if room is None)
        broken = sorted(_not_allowed(graph, rooms, table))
        return ContractCheck(kept=not lost and not broken, metadata={"lost": lost, "broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each module without a row, then each import that no row allows."""
        for name in check.metadata["lost"]:
            output.print_error(f"{name} is in no room of the table; add a row for it to pyproject.toml")
        for importer, imported, line in check.metadata["broken"]:
            output.print_error(f"{importer}:{line} may not import {imported}")

    def _room(self, name: str, table: Table) -> str | None:
        """Return the deepest room holding a module, `story.local` before `story`; empty is for anyone."""
        if name in self.everywhere:  # type: ignore[operator]  # a declared field, filled in by then
            return ""
        while name and name not in table:
            name = name.rpartition(".")[0]
        return name or None


def _not_allowed(
    graph: ImportGraph, rooms: dict[str, str | None], table: Table
) -> Iterator[tuple[str, str, int]]:
    """Yield (importer, imported, line) of each import that no row allows."""
    for importer, here in rooms.items():
        allowed = table[here] if here else frozenset()
        for imported in graph.find_modules_directly_imported_by(importer) & rooms.keys():
            there = rooms[imported]
            if there not in ("", here) and not {there, ANYTHING} & allowed:
                details = graph.get_import_details(importer=importer, imported=imported)
                yield importer, imported, details[0]["line_number"]

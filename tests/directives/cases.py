"""What a model with a cast of two may write, for both constraint libraries."""

CAST = ["32AN4R", "7QK2MD"]

ACCEPTED = [
    "",
    "The harbour was empty.\n",
    "a & b &lt;3 &amp;lt; “—” \u0000\r\n",
    "é שלום 🔔",
    '<quote speaker="32AN4R">Who?</quote>',
    '<quote speaker="7QK2MD"></quote>',
    '<quote speaker="32AN4R">a</quote><quote speaker="7QK2MD">b</quote>',
    '<quote speaker="32AN4R">a</quote> said <action>b</action>, <sound>c</sound>.',
    '<quote speaker="32AN4R">a<action>b</action>c<sound>d</sound></quote>',
    '<action>a<quote speaker="32AN4R">b<sound>c</sound></quote></action>',
    "<sound>a<action>b</action></sound><sound>c</sound>",
]

REJECTED = [
    ">",
    "a > b",
    "a < b",
    "<3",
    "<b>",
    "<<",
    "</quote>",
    "<quote>",
    "<Quote",
    "< quote",
    "<quote  speaker",
    "<quote speaker='",
    "<quote speaker=3",
    '<quote speaker="32AN4Q',
    '<quote speaker="ZZZZZZ">x</quote>',
    '<quote speaker="32AN4R7',
    '<quote speaker="32AN4R" ',
    '<quote speaker="32AN4R">a<quote',
    "<action>a<action>",
    "<action />",
    "<sound/>",
    '<quote speaker="32AN4R">a</action>',
    "<action><sound>x</action>",
    "<action>x</action></action>",
    '<action a="b">',
    "<sound>a > b</sound>",
    "<pastStory>",
]

UNFINISHED = [
    "<",
    "a <qu",
    '<quote speaker="',
    '<quote speaker="32AN4R',
    '<quote speaker="32AN4R">',
    '<quote speaker="32AN4R">Who?',
    '<quote speaker="32AN4R">Who?</quot',
    "<action>a<sound>b</sound>",
    "<action>x</",
]

"""What rows of users' files are, and their normal form.

The shapes, each read in all the ways it is written in the wild: messages (turns with role and content, tools and tool
calls), prompt-completion, alpaca, sharegpt (turns with from and value), preference (chosen and rejected), kto (an
answer with a label), text, and fim (code with a hole). Detection goes by the keys of the first row and says why;
`data.format` and `data.columns` overrule it. Nothing that would change what is trained is passed over in silence:
it is a problem by name, or listed in `Format.unused`.
"""

from localtune.data.shapes.canonical import to_messages
from localtune.data.shapes.detection import Format, detect
from localtune.data.shapes.normal import examples, normal_form

__all__ = ["Format", "detect", "examples", "normal_form", "to_messages"]

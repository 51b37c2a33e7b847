"""
The declaration of a command that a plugin offers.
"""

from attrs import frozen


@frozen(kw_only=True, eq=False, repr=False)
class Command:
    """
    A command of the command line.

    ``target``: ``"package.module:name"`` of a ``click.Command``, imported when the command is called. Its context
    object is the :class:`penstock.Project` of the options before it. Its result, if it is a whole number, is the exit
    code. ``summary``: one line for ``penstock connectors``.
    """

    name: str
    target: str
    summary: str

"""
Families: the streams of a job that request each other, so that a day of them is read in one run.
"""

from collections.abc import Mapping, Sequence

from attrs import frozen

from penstock._config.source import ConfiguredSource
from penstock._plan.finality import parent_with_days
from penstock._plan.plan import Job
from penstock.connector import Stream


@frozen(eq=False, repr=False)
class Families:
    """
    ``chosen``: the streams that the job reads to deliver them, see ``Job.chosen``. ``children``: by parent, the streams
    to read that are requested by its rows.
    """

    source: ConfiguredSource
    chosen: Sequence[Stream]
    children: Mapping[str, Sequence[Stream]]

    @classmethod
    def of(cls, job: Job) -> "Families":
        """The families of a job's streams."""
        chosen, children = job.chosen, dict[str, list[Stream]]()
        to_read = list(chosen)
        for stream in to_read:  # grows by parents that are read for their children only
            if stream.parent is not None:
                children.setdefault(stream.parent.stream, []).append(stream)
                parent = job.source.stream(stream.parent.stream)
                to_read += [parent] if parent not in to_read else []
        return cls(job.source, chosen, children)

    def reads(self, stream: Stream) -> bool:
        """Whether the job reads the stream, to deliver it or for its children."""
        return stream in self.chosen or stream.name in self.children

    def reads_for_others_only(self, stream: Stream) -> bool:
        """Whether the stream is a parent that is not delivered itself."""
        return stream.name in self.children and stream not in self.chosen

    def has_snapshots(self, stream: Stream) -> bool:
        """Whether a snapshot is requested by the stream's rows: it has the rows for all days that are read at once."""
        return any(child.kind == "snapshot" for child in self.children.get(stream.name, ()))

    def with_days(self, stream: Stream) -> list[Stream]:
        """The streams with days that this job reads and that request each other, from parents to children."""
        root = stream
        while (parent := parent_with_days(self.source, root)) is not None and parent.name in self.children:
            root = parent
        family = [root]
        for member in family:  # grows
            family += [child for child in self.children.get(member.name, ()) if child.kind != "snapshot"]
        return family

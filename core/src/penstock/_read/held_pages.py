"""
Pages that are held in memory until their slice is known to be whole, and the keys of all listings of a slice.
"""

from attrs import define, field

from penstock._decode import Decoded, KeysOfOtherListings, ListingKeys, Occurrences

HELD_RECORDS = 20_000
"""The most records of a slice that are held in memory until its last page shows whether it reached a ceiling."""


@define(eq=False, repr=False)
class HeldPages:
    """
    Decoded pages that are not written yet. ``promised``: what the provider states for their listings; None: nothing.
    """

    pages: list[Decoded] = field(factory=list)
    promised: int | None = None
    _records: int = field(default=0, init=False)

    def add(self, decoded: Decoded) -> None:
        self.pages.append(decoded)
        self._records += decoded.count

    @property
    def are_too_many(self) -> bool:
        return self._records > HELD_RECORDS


@define(eq=False, repr=False)
class SliceKeyState:
    """
    The keys that the listings of a slice share: the numbers of equal rows that have no key, and the keys of the others.
    What is added after a savepoint can be rolled back.
    """

    _occurrences: Occurrences = field(factory=Occurrences, init=False)
    _keys: KeysOfOtherListings = field(factory=KeysOfOtherListings, init=False)

    def of_listing(self, *, one_page: bool, several: bool) -> ListingKeys:
        """
        The keys of one more listing, none at first; the numbering of rows without a key continues from the listings
        before. ``one_page``: it has one page. ``several``: the slice may have several listings.
        """
        others = self._keys if several else None
        return ListingKeys(occurrences=self._occurrences, one_page=one_page and not several, others=others)

    def savepoint(self) -> None:
        self._occurrences.savepoint()
        self._keys.savepoint()

    def release(self) -> None:
        self._occurrences.release()
        self._keys.release()

    def rollback(self) -> None:
        self._occurrences.rollback()
        self._keys.rollback()

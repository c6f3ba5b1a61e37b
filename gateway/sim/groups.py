"""The groups of the number: only the business creates them, members are wa_ids."""

from gateway.sim.bodies import Json


class Groups:
    """Group id to members. Ids look like the client's: the creator's number, a dash, an epoch."""

    def __init__(self, wa_id: str) -> None:
        self._wa_id = wa_id
        self._groups: dict[str, tuple[str, ...]] = {}
        self._subjects: dict[str, str] = {}
        self._created_s: dict[str, int] = {}

    def create(self, members: tuple[str, ...], wall_ms: int, subject: str = "group") -> str:
        """A new group; epochs are counted up where two are made in one second."""
        epoch = wall_ms // 1000
        while (id_ := f"{self._wa_id}-{epoch}") in self._groups:
            epoch += 1
        self._groups[id_] = members
        self._subjects[id_] = subject
        self._created_s[id_] = epoch
        return id_

    def members(self, id_: str) -> tuple[str, ...] | None:
        """The members, without the business itself; None: no such group."""
        return self._groups.get(id_)

    def ids(self) -> list[Json]:
        """The answer of `GET /v1/groups`."""
        return [{"id": id_} for id_ in self._groups]

    def created(self, id_: str) -> Json:
        """The answer of `POST /v1/groups`."""
        return {"creation_time": self._created_s[id_], "id": id_}

    def info(self, id_: str) -> Json:
        """The answer of `GET /v1/groups/{id}`: the business is creator, admin and participant too."""
        return {
            "admins": [self._wa_id],
            "creation_time": self._created_s[id_],
            "creator": self._wa_id,
            "participants": [self._wa_id, *self._groups[id_]],
            "subject": self._subjects[id_],
        }

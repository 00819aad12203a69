"""``ToolResultTable``: the results of tool calls in an ``SQLStore``, before a model was shown them."""

from collections.abc import Mapping

from anyio import to_thread
from sqlalchemy import Connection, insert, select

from dhenara_async.errors import UnknownConversationError
from dhenara_async.messages.messages import ToolResultPart
from dhenara_async.stores.sql.attachments import has_large_file
from dhenara_async.stores.sql.database import Database, off_loop
from dhenara_async.stores.sql.loading import LARGE_LOAD, Found
from dhenara_async.stores.sql.tables import tool_results
from dhenara_async.stores.storable import demand_storable, storable


class ToolResultTable:
    """See ``StoreWithToolResults``. A base of ``SQLStore``, which adds the conversations."""

    _database: Database
    _owner: str

    def _locked(self, connection: Connection, conversation_id: str) -> Found | None:
        raise NotImplementedError

    async def keep_tool_result(self, conversation_id: str, node_id: str, place: int, result: ToolResultPart) -> None:
        """See ``StoreWithToolResults``."""
        for name in (conversation_id, node_id):
            demand_storable(name, "an id")
        key = {"owner": self._owner, "conversation": conversation_id, "node": node_id, "place": place}
        is_large = has_large_file((result,))
        body = await to_thread.run_sync(result.model_dump_json) if is_large else result.model_dump_json()

        def work(connection: Connection) -> None:
            if self._locked(connection, conversation_id) is None:
                raise UnknownConversationError(f"no conversation {conversation_id!r} in this store")
            mine = [tool_results.c[name] == value for name, value in key.items()]
            if connection.scalar(select(tool_results.c.place).where(*mine)) is None:
                connection.execute(insert(tool_results).values(**key, body=body))

        await self._database.write(work, row=(self._owner, conversation_id))

    async def tool_results(self, conversation_id: str, node_id: str) -> Mapping[int, ToolResultPart]:
        """See ``StoreWithToolResults``."""
        if not storable(conversation_id) or not storable(node_id):
            return {}
        found = select(tool_results.c.place, tool_results.c.body).where(
            tool_results.c.owner == self._owner,
            tool_results.c.conversation == conversation_id,
            tool_results.c.node == node_id,
        )

        def work(connection: Connection) -> Mapping[int, ToolResultPart]:
            bodies = {row.place: row.body for row in connection.execute(found)}

            def build() -> dict[int, ToolResultPart]:
                return {place: ToolResultPart.model_validate_json(body) for place, body in bodies.items()}

            return build() if sum(map(len, bodies.values())) < LARGE_LOAD else off_loop(connection, build)

        return await self._database.read(work)

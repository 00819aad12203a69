"""The conformance kit for stores: tests every promise of ``ConversationStore`` on your store.

For authors of stores. One call in a test is enough::

    from dhenara_async.testing import check_store

    async def test_my_store_conforms() -> None:
        await check_store(lambda: MyStore("test.db"), durable=True)

``STORE_PROMISES`` lists the promises; those of turns are tested where the store is a ``StoreWithJournal``. No model is
called.
"""

from collections.abc import Callable, Collection

import anyio

from dhenara_async.stores import ConversationStore
from dhenara_async.testing.promises import BrokenPromises
from dhenara_async.testing.stores.bench import OpenedStores
from dhenara_async.testing.stores.checks import CHECKS
from dhenara_async.testing.stores.promises import STORE_PROMISES, StorePromise

__all__ = ["STORE_PROMISES", "StorePromise", "check_store"]


async def check_store(
    store_factory: Callable[[], ConversationStore],
    *,
    durable: bool = False,
    except_for: Collection[StorePromise] = (),
    seconds: float = 30.0,
) -> None:
    """Test every promise of ``ConversationStore``, and report all that are broken at once.

    Args:
        store_factory: Makes a store. It is called for each promise, sometimes twice, and every store is closed. Stores
            may share their contents: the test uses conversation ids of its own. They stay behind.
        durable: Whether stores share their contents, as those of one database do. Then persistence is tested too.
        except_for: Promises that are not tested.
        seconds: How long the test of one promise may take before the promise counts as broken.

    Raises:
        AssertionError: Promises are broken; the message names each, with the case that was tried.
        ValueError: ``except_for`` names a promise that does not exist.
    """
    broken = BrokenPromises(STORE_PROMISES, except_for, table="testing.STORE_PROMISES")
    subject = "the store"
    for promise, check in CHECKS.items():
        if promise.startswith("durable.") and not durable:
            continue
        stores = OpenedStores(store_factory)
        try:
            with broken.of(promise, check.__name__.strip("_").replace("_", " ")), anyio.fail_after(seconds):
                await check(stores)
        finally:
            await stores.aclose()
        subject = stores.subject or subject
    broken.raise_if_any(subject)

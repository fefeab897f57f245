"""Redis as a cluster: the whole contract; slots that move, and a node that dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import test_contract
from clustered import Cluster
from jackfield_redis import RedisEngine

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("cut_off")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


class TestCluster(test_contract.TestRedis):
    """Three nodes, each with a third of the workspaces."""

    @pytest.fixture
    def engine(self, cluster: Cluster) -> RedisEngine:
        cluster.flush()
        self._url = cluster.url
        return self._another()

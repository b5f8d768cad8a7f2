"""How a method of an interface is replaced, from major version 1 to 2."""

import abc


class Reader(abc.ABC):
    """Version 2.0. In 1.1 ``read_all`` came, beside ``read`` and by default made of it."""

    api_version = (2, 0)
    capabilities = frozenset()

    @abc.abstractmethod
    def read_all(self, hosts):
        """What each of the hosts has."""


class ReaderOfMajor1(Reader):
    """Goes before a class of major 1. It is dropped with version 3.0."""

    def read_all(self, hosts):
        return {host: self.read(host) for host in hosts}


def adapt(plugin):
    """What ``nova_devcompat.kit.plugins.Plugins`` is given to load plugins of major 1."""
    return type(plugin.__name__, (ReaderOfMajor1, plugin), {})

# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""An option of the unit and the functional tests: ``--random-order SEED``."""

import random


def pytest_addoption(parser):
    parser.addoption(
        "--random-order",
        metavar="SEED",
        help="run unit or functional tests in an order, and let the scheduler of the latter "
        "choose hosts, as only the seed decides",
    )


def shuffle(config, items):
    """Put tests in random order, if that is wanted.

    :param items: the tests, alike in each process of pytest-xdist
    :returns: the seed; None where the order is left alone
    """
    seed = config.getoption("random_order")
    if seed is not None:
        random.Random(seed).shuffle(items)
    return seed

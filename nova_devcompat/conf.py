# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The options of ``[devcompat]``."""

from __future__ import annotations

from oslo_config import cfg

from nova_devcompat.compat.policy import Mode, OnUnknown, Policy

GROUP = cfg.OptGroup(
    "devcompat",
    title="nova-devcompat",
    help="""
Device versions as something that Nova schedules on.

The group is read by nova-compute (with ``compute_driver = devcompat.DeviceCompatDriver``) and by
nova-scheduler (with ``DeviceCompatFilter`` in ``[filter_scheduler] enabled_filters``, and the
weigher in ``weight_classes``). Give both the same packs, catalog, ``mode`` and ``on_unknown``.
nova-api reads ``packs`` and ``catalog`` alone, to validate the extra specs of flavors.
""",
)

OPTS = [
    cfg.StrOpt(
        "virt_driver",
        default="libvirt.LibvirtDriver",
        help="""
The virt driver that ``devcompat.DeviceCompatDriver`` wraps, named as ``compute_driver`` would name
it. All that driver does goes on to work; nova-devcompat adds traits, a document in the compute
node's stats, a record for each guest with assigned devices, and a check of live migrations.

Possible values:

* any name that ``[DEFAULT] compute_driver`` takes, except ``devcompat.DeviceCompatDriver``

Related options:

* ``[DEFAULT] compute_driver`` must be ``devcompat.DeviceCompatDriver``
""",
    ),
    cfg.ListOpt(
        "packs",
        default=[],
        help="""
Packs to use: ready-made catalogs that come with nova-devcompat, loaded before the files of
``catalog``, which override their families as a whole.

Possible values:

* names separated by commas, such as ``nvidia_vgpu,mlx5_vf``. The documentation describes each
  pack; a name that is none stops the service at start, with the list of those that are

Related options:

* ``catalog``: with packs, its default file need not be there
""",
    ),
    cfg.BoolOpt(
        "strict_driver_contract",
        default=False,
        help="""
Whether nova-compute refuses to start where Nova's virt driver API, or the driver that
``virt_driver`` names, is not as this release of nova-devcompat knows it. The API is internal to
Nova and may change in any release; what is relied on is compared at start.

By default only the hooks that the change concerns are off: an ERROR for each says what is lost,
and all else works. Without some of them, live migrations are accepted that should be refused. Set
this where nova-compute should rather not run then.

Related options:

* ``[devcompat] virt_driver``
""",
    ),
    cfg.MultiStrOpt(
        "catalog",
        default=["/etc/nova/devcompat.yaml"],
        help="""
The catalog: YAML files that name families, how devices match them, and their rules.

Possible values:

* the path of a file; give the option several times for several files. Later files add families,
  or override those of the same name as a whole

A file that is missing or wrong stops the service at start, with one line for each error. A file
that goes wrong later is logged, and the last good catalog stays in use. Check a file with
``nova-devcompat catalog validate FILE`` before you install it.
""",
    ),
    cfg.MultiStrOpt(
        "known_bad",
        default=[],
        help="""
Lists of what is known not to work although the rules accept it: pairs of a version that a guest
comes with and one that a host has. Packs have lists of their own.

Possible values:

* the path of a YAML file; give the option several times for several files. Of entries of one name
  that of the last file counts. A file that is wrong is handled as one of ``catalog`` is

Related options:

* ``catalog`` and ``packs`` must have the families that the entries are about
""",
    ),
    cfg.StrOpt(
        "accepted_risks",
        default="/etc/nova/devcompat-risks.yaml",
        help="""
The risks that are accepted for hosts, as ``nova-devcompat risk accept --host`` writes them. Give
it to nova-scheduler and to the hosts that it names; it need not be there. Those of guests are kept
with the guests.

Possible values:

* the path of a file. It is read again when it changes; one that is wrong lets nothing pass
""",
    ),
    cfg.IntOpt(
        "accepted_risk_days",
        default=90,
        min=1,
        help="""
For how long ``nova-devcompat risk accept`` accepts a risk, at most.
""",
    ),
    cfg.IntOpt(
        "record_format",
        default=1,
        min=1,
        max=2,
        help="""
The format in which nova-compute, and the commands ``nova-devcompat need``, write what a guest
needs. Both formats are read. In format 2 the record of a guest with one device is one row of
``system_metadata`` in place of two, and that of 8 devices with 60 features each is 4 rows in place
of 55. Records are written in another format when they change.

Possible values:

* 1: every release reads it
* 2: only once all nova-compute, nova-scheduler and ``nova-devcompat`` are of a release that has
  this option: to older ones such a guest's need is not known, which ``on_unknown`` decides
""",
    ),
    cfg.StrOpt(
        "inventory",
        default="/etc/nova/devcompat-inventory.yaml",
        help="""
The static inventory, one file for one host or for many. Read by the ``static`` source only, so
only where a family of the catalog says ``source: static``; a host takes the entry of its
hypervisor hostname.

Possible values:

* the path of a file
""",
    ),
    cfg.FloatOpt(
        "source_timeout",
        default=5.0,
        min=1.0,
        max=30.0,
        help="""
How long nova-compute waits for a source that reads its host's devices, and for libvirt when it
describes a guest or lists all. In seconds.

What gives no answer in that time is not known: in this cycle the host publishes nothing of the
families that the source reads, and guests that need them are kept off the host until it answers
again. So raise this on hosts where a source is slow rather than stuck, such as GPUs whose driver
does not stay loaded, or a host that is starved of CPU. A source that is stuck is waited for once;
it is not asked again until it has returned.

Possible values:

* 1 to 30 seconds, fractions too. Sources are asked one after the other, so several times this must
  be less than ``[DEFAULT] update_resources_interval``, which is 60 if it is 0
""",
    ),
    cfg.IntOpt(
        "stats_format",
        default=1,
        min=1,
        max=2,
        help="""
The format of the document that nova-compute publishes in its node's stats. Format 2 is smaller,
and nova-scheduler reads no more of it than a request is about: on hosts whose devices are of
several families a request takes a small part of the time.

Possible values:

* 1: what all releases read
* 2: once all nova-scheduler and nova-compute services and all controllers are of a release that
  reads it. Others take hosts that write it for unknown: they name the format in their logs, and
  ``on_unknown`` decides. ``nova-devcompat upgrade check`` tells which hosts read it

It can be turned back at any time; a host writes its document anew in its next cycle.
""",
    ),
    cfg.BoolOpt(
        "prefilter",
        default=True,
        help="""
Whether nova-scheduler asks placement only for hosts that accept the need of a guest that is live
migrated, and what flavors pin. It is what finds a fitting host beyond ``[scheduler]
max_placement_results``. The filter and nova-compute's own check decide the same without it, at a
higher price.

Families in ``report`` mode, and those with ``on_unknown = accept``, are never asked for: a host
that publishes nothing has no trait.
""",
    ),
    cfg.FloatOpt(
        "weight_multiplier",
        default=1.0,
        help="""
How much ``DeviceCompatWeigher`` counts. Among the hosts that fit, it prefers those whose devices
keep a guest most mobile: what it will need is accepted by the most other candidate hosts. Among
equals it prefers the closest fit, the device that accepts least, so that the newest devices stay
free for the guests that need them. Requests for guests without assigned devices weigh nothing.

Possible values:

* a positive number: weigh as described, against Nova's weighers with their multipliers
* 0: do not weigh, and compute nothing
* a negative number: prefer the hosts that keep a guest least mobile

Related options:

* ``[filter_scheduler] weight_classes`` must list
  ``nova_devcompat.scheduler.weights.all_weighers``
* the metadata key ``devcompat_weight_multiplier`` of a host aggregate overrides the option for the
  hosts of the aggregate; of several aggregates the lowest value holds, as with Nova's weighers
""",
    ),
    cfg.StrOpt(
        "mode",
        default=Mode.ENFORCE.value,
        choices=[
            (Mode.ENFORCE.value, "Hosts that do not fit are rejected"),
            (Mode.REPORT.value, "Log and count what would be rejected, and reject nothing"),
        ],
        help="""
Whether verdicts are acted on. A family of the catalog can override it, for good or by stages.
""",
    ),
    cfg.StrOpt(
        "on_unknown",
        default=OnUnknown.REJECT.value,
        choices=[
            (OnUnknown.REJECT.value, "What is not known does not fit"),
            (OnUnknown.ACCEPT.value, "What is not known fits"),
        ],
        help="""
What to do where a host, a device or a guest's record does not say enough to decide: a host that
publishes nothing, a version that cannot be read, a rule that the catalog lacks. A family of the
catalog can override it.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on ``conf``; doing it twice is harmless."""
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """The options, for ``oslo-config-generator`` and the documentation."""
    return [(GROUP, OPTS)]


def default_policy(conf: cfg.ConfigOpts) -> Policy:
    """The policy of families that do not state their own."""
    return Policy(mode=Mode(conf.devcompat.mode), on_unknown=OnUnknown(conf.devcompat.on_unknown))
